"""Dynamics with controlled noise, quadratic rewards and values, on the types of the simulator."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._reward import Reward
from ctcontrol._sde import ControlledSDE
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value
from ctcontrol._volatility import DiagonalVolatility, Volatility


@dataclass(frozen=True)
class MultiplicativeNoiseSDE(ControlledSDE):
    """dX = (AX + Bu)dt + (CX + Du)dW for states and actions (batch, 1).

    Attributes:
        A, B: per unit of time.
        C, D: per square root of a unit of time.
    """

    A: float
    B: float
    C: float
    D: float

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return self.A * x + self.B * a

    def volatility(self, t: Time, x: State, a: Action) -> Volatility:
        return DiagonalVolatility(self.C * x + self.D * a)


class QuadraticValue(Value):
    """V(t, x) = ½k₂x² + k₁x + k₀ + rate · (horizon − t) for states (batch, 1).

    Args:
        k2, k1, k0: units of reward per x², per x, and of reward.
        rate: reward per unit of time; 0 for a stationary value.
        horizon: only its product with the rate counts.
    """

    def __init__(self, k2: float, k1: float, k0: float, rate: float, horizon: float) -> None:
        super().__init__()
        self.k2, self.k1, self.k0 = k2, k1, k0
        self.rate, self.horizon = rate, horizon

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,); derivatives by autograd are exact."""
        y = x[:, 0]
        return (0.5 * self.k2 * y + self.k1) * y + self.k0 + self.rate * (self.horizon - t)


@dataclass(frozen=True, eq=False)
class ScalarQuadraticReward(Reward):
    """r = −(½Mx² + Rxu + ½Nu² + Px + Qu) per unit of time; h is `tail` at the horizon.

    Attributes:
        M, N, R, P, Q: as in the formula.
        tail: (t, x, context) as a `Value`, read at its horizon.
    """

    M: float
    N: float
    R: float
    P: float
    Q: float
    tail: QuadraticValue

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        y, u = x[:, 0], a[:, 0]
        bend = 0.5 * self.M * y**2 + self.R * y * u + 0.5 * self.N * u**2
        return -(bend + self.P * y + self.Q * u)

    def terminal(self, x: State, context: Context) -> Scalar:
        end: Tensor = x.new_full((len(x),), self.tail.horizon)
        return self.tail.at(end, x, context)
