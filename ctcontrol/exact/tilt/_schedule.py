"""Linear forward processes, which turn data into noise, as exact problems need them."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive

Clock = TypeVar("Clock", float, Tensor)
"""Diffusion time, one number or one a row."""


class ForwardProcess(ABC):
    """dX_s = f_s X_s ds + g_s dB_s from data (s = 0) to noise (s = T), so X_s = α_s X_0 + σ_s ε.

    f = (log α)′ and g² = (σ²)′ − 2fσ², both per unit of time. Control time is t = T − s.

    Attributes:
        horizon: T.
    """

    horizon: float

    @abstractmethod
    def log_alpha(self, s: Clock) -> Clock:
        """log α_s, 0 at the data."""

    @abstractmethod
    def variance(self, s: Clock) -> Clock:
        """σ_s², 0 at the data."""

    @abstractmethod
    def pull(self, s: Clock) -> Clock:
        """f_s, per unit of time."""

    @abstractmethod
    def intensity(self, s: Clock) -> Clock:
        """g_s², per unit of time."""

    def alpha(self, s: Clock) -> Clock:
        """α_s."""
        return _of("exp", self.log_alpha(s))


@dataclass(frozen=True)
class _LinearBeta(ForwardProcess):
    """β_s = β_min + (β_max − β_min)s/T, the rate at which the data are forgotten."""

    beta_min: float
    beta_max: float
    horizon: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative("beta_min", self.beta_min)
        check_positive("beta_max", self.beta_max)
        check_positive("horizon", self.horizon)
        if self.beta_max < self.beta_min:
            raise CtcontrolError(
                f"beta_max must be at least beta_min = {self.beta_min}, got {self.beta_max}"
            )

    def beta(self, s: Clock) -> Clock:
        """β_s, per unit of time."""
        return self.beta_min + (self.beta_max - self.beta_min) / self.horizon * s

    def integral(self, s: Clock) -> Clock:
        """∫₀^s β."""
        return (self.beta_min + 0.5 * (self.beta_max - self.beta_min) / self.horizon * s) * s

    def log_alpha(self, s: Clock) -> Clock:
        return -0.5 * self.integral(s)

    def pull(self, s: Clock) -> Clock:
        return -0.5 * self.beta(s)


@dataclass(frozen=True)
class VariancePreserving(_LinearBeta):
    """dX = −½β_s X ds + √β_s dB: α_s = exp(−½∫₀^s β), σ_s² = 1 − α_s². (Song et al. 2021.)

    β_s = β_min + (β_max − β_min)s/T.

    Attributes:
        beta_min: β at the data, per unit of time, ≥ 0.
        beta_max: β at the noise, per unit of time, ≥ beta_min.
        horizon: T.
    """

    def variance(self, s: Clock) -> Clock:
        return -_of("expm1", -self.integral(s))

    def intensity(self, s: Clock) -> Clock:
        return self.beta(s)


@dataclass(frozen=True)
class SubVariancePreserving(_LinearBeta):
    """dX = −½β_s X ds + √(β_s(1 − α_s⁴)) dB: σ_s = 1 − α_s², α and β as in `VariancePreserving`.

    (Song et al. 2021, eq. 14.) g² vanishes at the data.
    """

    def variance(self, s: Clock) -> Clock:
        return _of("expm1", -self.integral(s)) ** 2

    def intensity(self, s: Clock) -> Clock:
        return -self.beta(s) * _of("expm1", -2 * self.integral(s))


@dataclass(frozen=True)
class VarianceExploding(ForwardProcess):
    """dX = g_s dB: α = 1 and σ_s² = σ_min²[(σ_max/σ_min)^{2s/T} − 1]. (Song et al. 2021, eq. 9.)

    Attributes:
        sigma_min: > 0, in units of the state.
        sigma_max: > sigma_min.
        horizon: T.
    """

    sigma_min: float
    sigma_max: float
    horizon: float = 1.0

    def __post_init__(self) -> None:
        check_positive("sigma_min", self.sigma_min)
        check_positive("sigma_max", self.sigma_max)
        check_positive("horizon", self.horizon)
        if self.sigma_max <= self.sigma_min:
            raise CtcontrolError(
                f"sigma_max must exceed sigma_min = {self.sigma_min}, got {self.sigma_max}"
            )

    @property
    def _growth(self) -> float:
        """d log g²/ds."""
        return 2 * math.log(self.sigma_max / self.sigma_min) / self.horizon

    def log_alpha(self, s: Clock) -> Clock:
        return 0.0 * s

    def variance(self, s: Clock) -> Clock:
        return self.sigma_min**2 * _of("expm1", self._growth * s)

    def pull(self, s: Clock) -> Clock:
        return 0.0 * s

    def intensity(self, s: Clock) -> Clock:
        return self._growth * (self.sigma_min**2 + self.variance(s))


@dataclass(frozen=True)
class FlowMatching(ForwardProcess):
    """X_s = (1 − s)X_0 + sε, the straight paths of rectified flow: f = −1/(1 − s), g² = 2s/(1 − s).

    Its reversal is the memoryless sampler of flow matching, its `Reversal` with eta = 0 the flow
    itself. (Lipman et al. 2023; Liu et al. 2023; Domingo-Enrich et al. 2025.) f and g are
    infinite at s = 1, so the horizon stops before; g² vanishes at the data.

    Attributes:
        horizon: T in (0, 1); what is left of the data in X_T is α_T = 1 − T.
    """

    horizon: float = 0.98

    def __post_init__(self) -> None:
        if not check_positive("horizon", self.horizon) < 1:
            raise CtcontrolError(
                "horizon must lie in (0, 1), because the noise of flow matching is infinite at "
                f"s = 1; got {self.horizon}"
            )

    def log_alpha(self, s: Clock) -> Clock:
        return _of("log1p", -s)

    def variance(self, s: Clock) -> Clock:
        return s * s

    def pull(self, s: Clock) -> Clock:
        return -1 / (1 - s)

    def intensity(self, s: Clock) -> Clock:
        return 2 * s / (1 - s)


def _of(function: str, x: Clock) -> Clock:
    """torch.function(x) or math.function(x)."""
    return getattr(torch if isinstance(x, Tensor) else math, function)(x)
