"""One step of a scheme over intervals [t0, t1]; the loop over time lives in `simulate`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from ctcontrol._sde import ControlledSDE, ElementwiseActionSDE, UncontrolledVolatilitySDE
from ctcontrol._tensor import inner, like
from ctcontrol._typing import Action, Context, Noise, Scalar, State, Time
from ctcontrol._volatility import ScalarVolatility


class Solver(ABC):
    """A scheme whose step is Gaussian given the held action: X' = mean(x, a) + noise(x, ΔW).

    All the questions that control asks of a step are answered here, so that simulation,
    likelihood ratios and KL can never disagree about the chain that was actually run. Every row
    has its own interval: t0 and t1 are (batch,).
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
        """X_{t1} − mean, given the held action and the increment `dw` ~ N(0, (t1 − t0) I)."""

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


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """X' = x + b(t0, x, a)(t1 − t0) + σ(t0, x, a) ΔW.

    Strong order ½ (1 for additive noise), weak order 1. The KL of its chain, for an uncontrolled
    volatility, is *exactly* ½|σ⁻¹(b(a) − b(reference))|²(t1 − t0) a step, the discretised
    Girsanov formula.
    """

    def mean(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, context: Context
    ) -> State:
        return x + sde.drift(t0, x, a, context) * like(t1 - t0, x)

    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        return sde.volatility(t0, x, a).mul(dw)

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
        gap = sde.drift(t0, x, a, context) - sde.drift(t0, x, reference, context)
        white = sde.volatility(t0, x).whiten(gap)
        return 0.5 * (t1 - t0) * inner(white, white)

    def absorbing_std(self, sde: ElementwiseActionSDE, t0: Time, t1: Time) -> Scalar:
        volatility = sde.volatility(t0, t0)
        if not isinstance(volatility, ScalarVolatility):
            raise TypeError(
                "a policy can absorb only the noise of a scalar volatility σ(t), got "
                f"{type(volatility).__name__}"
            )
        return (volatility.value / sde.action_gain(t0)).abs() / (t1 - t0).sqrt()
