"""Dynamics, and nothing about policies, rewards, grids or solvers."""

from abc import ABC, abstractmethod

from ctcontrol._tensor import like
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._volatility import Volatility


class ControlledSDE(ABC):
    """dX = b(t, X, a) dt + σ(t, X) dW, Itô, in control time t ∈ [0, horizon].

    The volatility does not depend on the action. (docs/theory: conventions.)
    """

    @abstractmethod
    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        """b(t, x, a), per unit of time."""

    @abstractmethod
    def volatility(self, t: Time, x: State) -> Volatility:
        """σ(t, x), per square root of a unit of time."""


class ActionAffineSDE(ControlledSDE):
    """b(t, x, a) = b₀(t, x) + β(t) a, β linear: the mean of the drift is the drift at the mean.

    This is what makes a held random action harmless: over a step, its noise moves the state
    without moving its mean.
    """

    @abstractmethod
    def free_drift(self, t: Time, x: State, context: Context) -> State:
        """b₀(t, x)."""

    @abstractmethod
    def action_drift(self, t: Time, a: Action) -> State:
        """β(t) a, linear in a."""

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return self.free_drift(t, x, context) + self.action_drift(t, a)


class ElementwiseActionSDE(ActionAffineSDE):
    """β(t) a = γ(t) a with one number γ(t) a row: actions have the shape of states.

    Reverse diffusions are of this kind (γ = g²), and single integrators. Only for these can the
    action absorb the noise of a step (`NoiseAbsorbingPolicy`).
    """

    @abstractmethod
    def action_gain(self, t: Time) -> Scalar:
        """γ(t)."""

    def action_drift(self, t: Time, a: Action) -> State:
        return like(self.action_gain(t), a) * a
