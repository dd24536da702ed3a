"""Rewards at the end whose exponential has a Gaussian average in closed form."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._tensor import like
from ctcontrol._typing import Scalar, State
from ctcontrol.exact.lq._arrays import Numbers, as_matrix, as_symmetric, as_vector
from ctcontrol.exact.tilt import GaussianMixture


class LogWeight(ABC):
    """ℓ(x) = h(x)/λ, the terminal reward in units of the temperature λ = Rσ²."""

    @property
    @abstractmethod
    def states(self) -> int:
        """d."""

    @abstractmethod
    def log_expectation(self, x: State, variance: Scalar) -> Scalar:
        """log E exp ℓ(x + √variance ξ) with ξ ~ N(0, I), (batch,); variance ≥ 0 is (batch,).

        Differentiable in both. Raises `CtcontrolError` where the expectation is infinite.
        """


@dataclass(frozen=True, eq=False, init=False)
class LogCosh(LogWeight):
    """ℓ = log cosh(bᵀx): two modes at the ends of b; log E = log cosh(bᵀx) + ½|b|² variance.

    Args:
        slope: b, (d,), per unit of the state.
    """

    slope: Float[Tensor, "d"]

    def __init__(self, slope: Numbers) -> None:
        b = as_vector("slope", slope)
        object.__setattr__(self, "slope", torch.tensor(b))

    @property
    def states(self) -> int:
        return len(self.slope)

    def log_expectation(self, x: State, variance: Scalar) -> Scalar:
        b = self.slope.to(x)
        z = x @ b
        log_cosh = torch.logaddexp(z, -z) - math.log(2)
        return log_cosh + 0.5 * (b @ b) * variance


@dataclass(frozen=True, eq=False)
class LogMixture(LogWeight):
    """e^ℓ = Σ w_i N(x; m_i, C_i): many modes; noise only widens the components.

    Attributes:
        mixture: weights, means and covariances.
    """

    mixture: GaussianMixture

    @property
    def states(self) -> int:
        return self.mixture.dimension

    def log_expectation(self, x: State, variance: Scalar) -> Scalar:
        return self.mixture.log_prob(x, torch.ones_like(variance), variance)


@dataclass(frozen=True, eq=False, init=False)
class LogQuadratic(LogWeight):
    """ℓ = bᵀx − ½xᵀKx, for which the problem is linear-quadratic:

    log E = ½(b − Kx)ᵀ(I + vK)⁻¹v(b − Kx) + ℓ(x) − ½log det(I + vK) at variance v.

    Args:
        linear: b, (d,).
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
    """

    linear: Float[Tensor, "d"]
    quadratic: Float[Tensor, "d d"]

    def __init__(self, linear: Numbers, quadratic: Numbers = 0.0) -> None:
        b = as_vector("linear", linear)
        K = as_symmetric("quadratic", as_matrix("quadratic", quadratic, len(b)), len(b))
        object.__setattr__(self, "linear", torch.tensor(b))
        object.__setattr__(self, "quadratic", torch.tensor(K))

    @property
    def states(self) -> int:
        return len(self.linear)

    def log_expectation(self, x: State, variance: Scalar) -> Scalar:
        b, K = self.linear.to(x), self.quadratic.to(x)
        eye = torch.eye(len(b)).to(x)
        bend = eye + like(variance, x[:, None]) * K
        if not bool((torch.linalg.eigvalsh(bend.detach()) > 0).all()):
            raise CtcontrolError(
                "the terminal reward grows faster than the noise spreads, so its exponential has "
                "no average; make quadratic larger, or the horizon shorter"
            )
        slope = b - x @ K
        inside = torch.linalg.solve(bend, slope[..., None])[..., 0]
        level = x @ b - 0.5 * (x * (x @ K)).sum(1)
        gain = 0.5 * variance * (slope * inside).sum(1)
        return level + gain - 0.5 * torch.linalg.slogdet(bend).logabsdet
