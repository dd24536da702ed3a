"""The numbers that values and advantage rates consist of."""

from dataclasses import dataclass

from ctcontrol.exact.lq import Array


@dataclass(frozen=True)
class Coefficients:
    """½k₂x² + k₁x, and the `rate` that is left over: ρ times the constant, or the average reward.

    Attributes:
        k2, k1: reward per x² and per x.
        rate: reward per unit of time.
    """

    k2: float
    k1: float
    rate: float


@dataclass(frozen=True)
class AdvantageRate:
    """q(x, u) = r + (Ax + Bu)V' + ½(Cx + Du)²V'' − ρV, per unit of time, as a quadratic.

    The exact advantage rate, with the average reward in the place of ρV where that is maximized;
    E_π[q] = −λ·entropy(π), that is E_π[q − λ log π] = 0. (Jia and Zhou 2023, 2207.00713.)

    Attributes:
        uu, xu, xx, u, x, constant: coefficients of u², xu, x², u, x and 1.
    """

    uu: float
    xu: float
    xx: float
    u: float
    x: float
    constant: float

    def __call__(self, x: Array, u: Array) -> Array:
        """q at states and actions of one shape."""
        return (self.uu * u + self.xu * x + self.u) * u + (self.xx * x + self.x) * x + self.constant

    def expectation(
        self, gain: float, offset: float, variance: float, mean: float, second: float
    ) -> float:
        """E q for u ~ N(gain · X + offset, variance) and X with these first two moments."""
        bend = (self.uu * gain**2 + self.xu * gain + self.xx) * second
        tilt = ((2 * self.uu * gain + self.xu) * offset + self.u * gain + self.x) * mean
        return bend + tilt + self.uu * (offset**2 + variance) + self.u * offset + self.constant
