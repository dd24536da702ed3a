"""What a step is asked for: the next state, and for a Gaussian step its law as well."""

from abc import ABC, abstractmethod

from ctcontrol._sde import ControlledSDE, ElementwiseActionSDE, UncontrolledVolatilitySDE
from ctcontrol._typing import Action, Context, Noise, Scalar, State, Time

GAUSSIAN = (
    "the law of its step has no closed form, which innovations, likelihoods and KL need; take "
    "EulerMaruyama(), or use this scheme in a simulation that asks for states and rewards alone"
)
"""The remedy where a `Scheme` is given and a `Solver` is needed."""


class Scheme(ABC):
    """One step of a numerical scheme over [t0, t1], the action held.

    Enough to simulate and to estimate values. Likelihood ratios, path KL and innovations need the
    law of the step: they ask for a `Solver`. Every row has its own interval: t0 and t1 are
    (batch,). Where all rows share one, it may be a number that is expanded (stride 0).
    """

    @abstractmethod
    def step(
        self,
        sde: ControlledSDE,
        t0: Time,
        t1: Time,
        x: State,
        a: Action,
        dw: Noise,
        context: Context,
    ) -> State:
        """X_{t1} given X_{t0} = x, the action a held, and `dw` ~ N(0, (t1 − t0) I).

        `dw` has the shape of `noise_like`. Raises `CtcontrolError` where the dynamics are not of
        a kind for which the scheme is right.
        """

    def noise_like(self, sde: ControlledSDE, t0: Time, x: State, a: Action) -> Noise:
        """An empty buffer for the noise of one step, (batch, *noise).

        Override only where a step needs more than ΔW.
        """
        return sde.volatility(t0, x, a).noise_like(x)


class Solver(Scheme):
    """A scheme whose step is Gaussian given the held action: X' = mean(x, a) + noise(x, ΔW).

    All the questions that control asks of a step are answered here, so that simulation,
    likelihood ratios and KL can never disagree about the chain that was actually run.
    """

    @abstractmethod
    def mean(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, context: Context
    ) -> State:
        """E[X_{t1} | X_{t0} = x, action a held]."""

    @abstractmethod
    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        """X_{t1} − mean, linear in the increment `dw` ~ N(0, (t1 − t0) I)."""

    def noise_scale(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action
    ) -> float | None:
        """s if noise(dw) = s · dw with one number s for all rows that is known without waiting.

        Override where that may be: rollouts then add the noise in one pass.
        """
        return None

    @abstractmethod
    def driving(
        self, sde: UncontrolledVolatilitySDE, t0: Time, t1: Time, x: State, a: Action, v: State
    ) -> Noise:
        """The increment dw of least norm with noise(dw) = v.

        Then |dw|²/(t1 − t0) is the Mahalanobis norm of v under the law of the step. Raises
        `CtcontrolError` where the step has no noise in some direction.
        """

    @abstractmethod
    def step_kl(
        self,
        sde: UncontrolledVolatilitySDE,
        t0: Time,
        t1: Time,
        x: State,
        a: Action,
        reference: Action,
        context: Context,
    ) -> Scalar:
        """KL between the one-step laws under actions `a` and `reference`, in nats; exact.

        The two laws share their noise, which is why the volatility must be uncontrolled.
        Raises `CtcontrolError` where the step has no noise: that KL is infinite.
        """

    @abstractmethod
    def absorbing_std(self, sde: ElementwiseActionSDE, t0: Time, t1: Time) -> Scalar:
        """The action std with which the noise-free step has the law of the noisy step.

        DDPO's "action X_{k+1}" is the score action with this std.
        """

    def step(
        self,
        sde: ControlledSDE,
        t0: Time,
        t1: Time,
        x: State,
        a: Action,
        dw: Noise,
        context: Context,
    ) -> State:
        """mean + noise."""
        return self.mean(sde, t0, t1, x, a, context) + self.noise(sde, t0, t1, x, a, dw)
