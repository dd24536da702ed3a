"""Dynamics, and nothing about policies, rewards, grids or solvers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._tensor import like
from ctcontrol._typing import Action, Context, MeanFunction, Scalar, State, Time
from ctcontrol._volatility import Volatility


class ControlledSDE(ABC):
    """dX = b(t, X, a) dt + σ(t, X, a) dW, Itô, in control time t ∈ [0, horizon].

    The volatility may depend on the action: then an action changes the return also through
    ½tr(σσᵀ∇²V), two actions give laws of the path that are singular to each other, and exploration
    costs at order one. What cannot deal with that takes an `UncontrolledVolatilitySDE`.
    (docs/theory: conventions.)
    """

    @abstractmethod
    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        """b(t, x, a), per unit of time."""

    @abstractmethod
    def volatility(self, t: Time, x: State, a: Action) -> Volatility:
        """σ(t, x, a), per square root of a unit of time."""


class UncontrolledVolatilitySDE(ControlledSDE):
    """dX = b(t, X, a) dt + σ(t, X) dW: actions move the drift alone.

    All actions then share their second-order term, so that advantages need no Hessian, and their
    noise, so that likelihood ratios and KL of paths exist (Girsanov).
    """

    @abstractmethod
    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        """σ(t, x), per square root of a unit of time; the same for every `a`."""


class AdditiveNoiseSDE(UncontrolledVolatilitySDE):
    """dX = b(t, X, a) dt + σ(t) dW: `volatility(t, x, a)` looks at neither x nor a.

    Itô and Stratonovich are then the same, and cheap schemes of higher order exist (`Heun`,
    `SRA1`).
    """


class ActionAffineSDE(UncontrolledVolatilitySDE):
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


@dataclass(frozen=True, eq=False)
class LinearCoefficients:
    """b = A x + B a + f with noise σ, constant in time.

    Attributes:
        A: (d, d), per unit of time.
        B: (d, m), per unit of time.
        f: (d,), per unit of time.
        sigma: (d, k), per square root of a unit of time.
    """

    A: Float[Tensor, "d d"]
    B: Float[Tensor, "d m"]
    f: Float[Tensor, "d"]
    sigma: Float[Tensor, "d k"]


class ConstantLinearSDE(AdditiveNoiseSDE, ActionAffineSDE):
    """dX = (A X + B a + f) dt + σ dW for vector states, all coefficients constant.

    Its steps are Gaussian with known mean and covariance at any length (`ExactLinear`).
    Coefficients are read once and kept, so they must not change; compare by identity
    (`eq=False` of a dataclass).
    """

    @abstractmethod
    def coefficients(self) -> LinearCoefficients:
        """A, B, f and σ."""


@dataclass(frozen=True, eq=False)
class ClosedLoopSDE(UncontrolledVolatilitySDE):
    """dX = b(t, X, μ(t, X)) dt + σ(t, X) dW: feedback inside the drift, in continuous time.

    The action that a step is given does not count, so that nothing is held: every stage of a
    scheme asks the feedback anew. Made by `closed_loop`.

    Attributes:
        sde: the controlled dynamics.
        feedback: μ, (t, x, context) -> action.
    """

    sde: UncontrolledVolatilitySDE
    feedback: MeanFunction

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return self.sde.drift(t, x, self.feedback(t, x, context), context)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return self.sde.volatility(t, x)


class AdditiveClosedLoopSDE(ClosedLoopSDE, AdditiveNoiseSDE):
    """`ClosedLoopSDE` with a volatility σ(t)."""


Kind = TypeVar("Kind", bound=ControlledSDE)


def of_kind(sde: ControlledSDE, kind: type[Kind], who: str, remedy: str) -> Kind:
    """Return `sde` if it is of this `kind`.

    Raises:
        CtcontrolError: it is not; the sentence names `who` asks, what it got, and the `remedy`.
    """
    if not isinstance(sde, kind):
        raise CtcontrolError(
            f"{who} takes dynamics of the kind {kind.__name__}, got {type(sde).__name__}; {remedy}"
        )
    return sde
