"""The variance-preserving forward process, as exact problems need it."""

import math
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive

Clock = TypeVar("Clock", float, Tensor)
"""Diffusion time, one number or one a row."""


@dataclass(frozen=True)
class VariancePreserving:
    """dX_s = −½β_s X_s ds + √β_s dB_s with β_s = β_min + (β_max − β_min)s/T.

    X_s = α_s X_0 + σ_s ε with α_s = exp(−½∫₀^s β) and σ_s² = 1 − α_s². The clock s runs from
    data (0) to noise (T); control time is t = T − s.

    Attributes:
        beta_min: β at the data, per unit of time, ≥ 0.
        beta_max: β at the noise, per unit of time, ≥ beta_min.
        horizon: T.
    """

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

    def alpha(self, s: float) -> float:
        """α_s."""
        return math.exp(-0.5 * self.integral(s))

    def variance(self, s: float) -> float:
        """σ_s² = 1 − α_s²."""
        return -math.expm1(-self.integral(s))
