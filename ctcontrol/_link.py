"""How a value network leaves the data end: V = c_in · guess + c_out · residual.

At the horizon every link has c_in = 1 and c_out = 0, so the terminal condition V(T, x) = h(x)
holds by construction. What differs is how large a residual the network has to learn there: the
target (V − c_in guess)/c_out grows like 1/(T − t) for `CosOneMinusCos`, stays O(1) for `Linear`,
`CosSin` and `Variance` (docs/theory, value-network links).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._checks import check_positive
from ctcontrol._typing import Scalar, Time


class Link(ABC):
    """The pair (c_in, c_out) as functions of control time."""

    @abstractmethod
    def coefficients(self, t: Time) -> tuple[Scalar, Scalar]:
        """(c_in(t), c_out(t)), each (batch,); (1, 0) at the horizon."""


@dataclass(frozen=True)
class _HorizonLink(Link):
    horizon: float

    def __post_init__(self) -> None:
        check_positive("horizon", self.horizon)

    def to_go(self, t: Time) -> Scalar:
        """(T − t)/T, clamped to [0, 1]."""
        return (1 - t / self.horizon).clamp(0, 1)


@dataclass(frozen=True)
class CosSin(_HorizonLink):
    """cos(πu/2), sin(πu/2) with u = (T − t)/T: the choice of Score as Action (ICML 2025)."""

    def coefficients(self, t: Time) -> tuple[Scalar, Scalar]:
        angle = 0.5 * math.pi * self.to_go(t)
        return torch.cos(angle), torch.sin(angle)


@dataclass(frozen=True)
class Linear(_HorizonLink):
    """1 − u, u with u = (T − t)/T."""

    def coefficients(self, t: Time) -> tuple[Scalar, Scalar]:
        u = self.to_go(t)
        return 1 - u, u


@dataclass(frozen=True)
class Constant(_HorizonLink):
    """1, 1 before the horizon, and 1, 0 there: the residual does all that the guess leaves.

    The only link that suits a value without a guess, whose residual is all of it to the end.
    """

    def coefficients(self, t: Time) -> tuple[Scalar, Scalar]:
        return torch.ones_like(t), (self.to_go(t) > 1e-6).to(t.dtype)


@dataclass(frozen=True)
class CosOneMinusCos(_HorizonLink):
    """cos(πu/2), 1 − cos(πu/2): ill-conditioned near the data end; kept for ablations."""

    def coefficients(self, t: Time) -> tuple[Scalar, Scalar]:
        c_in = torch.cos(0.5 * math.pi * self.to_go(t))
        return c_in, 1 - c_in


@dataclass(frozen=True)
class Variance(Link):
    """1, σ²(t): the residual is scaled like the posterior variance that causes it.

    Attributes:
        variance: t (batch,) -> (batch,) in [0, 1], zero at the horizon.
    """

    variance: Callable[[Tensor], Tensor]

    def coefficients(self, t: Time) -> tuple[Scalar, Scalar]:
        return torch.ones_like(t), self.variance(t)
