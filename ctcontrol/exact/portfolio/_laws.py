"""Gaussian investment policies, as numbers for the exact formulas and as modules for learners."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_number, check_positive
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._tensor import like
from ctcontrol._typing import Context, State, Time


@dataclass(frozen=True)
class Fraction:
    """u ~ N(mean, variance): the fraction of wealth in the risky asset, the same at all times.

    Raises:
        CtcontrolError: a negative variance.
    """

    mean: float
    variance: float = 0.0

    def __post_init__(self) -> None:
        check_number("mean", self.mean)
        check_nonnegative("variance", self.variance)


@dataclass(frozen=True)
class Investment:
    """u ~ N(−slope (x − w), variance · e^{tilt (T − t)}): an amount of money, w the multiplier.

    The family of Wang and Zhou (2020), which policy improvement does not leave.

    Attributes:
        slope: K, money per money.
        variance: v ≥ 0 at the horizon, money squared.
        tilt: α, per unit of time.

    Raises:
        CtcontrolError: numbers that are not finite, or a negative variance.
    """

    slope: float
    variance: float = 0.0
    tilt: float = 0.0

    def __post_init__(self) -> None:
        check_number("slope", self.slope)
        check_number("tilt", self.tilt)
        check_nonnegative("variance", self.variance)


class FractionPolicy(Policy):
    """A `Fraction` whose mean and log std are trained.

    Args:
        start: where to begin; needs variance > 0.
        dtype: of the parameters.
    """

    def __init__(self, start: Fraction, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        std = math.sqrt(check_positive("variance", start.variance))
        self.mean = nn.Parameter(torch.tensor(start.mean, dtype=dtype))
        self.log_std = nn.Parameter(torch.tensor(math.log(std), dtype=dtype))

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        """The law of the action at rows (t, x)."""
        return Gaussian(self.mean.to(x).expand_as(x), self.log_std.exp().to(x).expand(len(x)))

    def law(self) -> Fraction:
        """A snapshot, for the exact formulas."""
        return Fraction(float(self.mean.detach()), math.exp(2 * float(self.log_std.detach())))


class InvestmentPolicy(Policy):
    """An `Investment` whose slope, log variance and tilt are trained.

    Args:
        start: where to begin; needs variance > 0.
        multiplier: w, money.
        horizon: T.
        dtype: of the parameters.
    """

    def __init__(
        self,
        start: Investment,
        multiplier: float,
        horizon: float,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        check_positive("variance", start.variance)
        self.multiplier, self.horizon = multiplier, check_positive("horizon", horizon)
        self.slope = nn.Parameter(torch.tensor(start.slope, dtype=dtype))
        self.log_variance = nn.Parameter(torch.tensor(start.variance, dtype=dtype).log())
        self.tilt = nn.Parameter(torch.tensor(start.tilt, dtype=dtype))

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        """The law of the action at rows (t, x)."""
        mean = -self.slope.to(x) * (x - self.multiplier)
        log_std = 0.5 * (self.log_variance + self.tilt * (self.horizon - t)).to(x)
        return Gaussian(mean, like(log_std.exp(), x).expand_as(x))

    def law(self) -> Investment:
        """A snapshot, for the exact formulas."""
        slope, log_variance, tilt = (
            float(p.detach()) for p in (self.slope, self.log_variance, self.tilt)
        )
        return Investment(slope, math.exp(log_variance), tilt)


def entropy_of(variance: float, temperature: float) -> float:
    """Entropy of N(·, variance) in nats; 0 where the temperature is.

    Raises:
        CtcontrolError: a point mass where the entropy counts.
    """
    if temperature == 0:
        return 0.0
    if variance <= 0:
        raise CtcontrolError(
            "with a temperature the policy's variance must be > 0, because the entropy of a point "
            "mass is −∞; raise it, or set temperature = 0"
        )
    return 0.5 * math.log(2 * math.pi * math.e * variance)
