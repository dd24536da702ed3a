"""The Euler–Maruyama scheme."""

from dataclasses import dataclass

import torch

from ctcontrol._checks import check_kind
from ctcontrol._sde import ControlledSDE, ElementwiseActionSDE, UncontrolledVolatilitySDE
from ctcontrol._tensor import inner, shared, span
from ctcontrol._typing import Action, Context, Noise, Scalar, State, Time
from ctcontrol._volatility import ScalarVolatility
from ctcontrol.solvers._base import GAUSSIAN, Scheme, Solver


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
        return torch.addcmul(x, sde.drift(t0, x, a, context), span(t0, t1, x))

    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        return sde.volatility(t0, x, a).mul(dw)

    def noise_scale(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action
    ) -> float | None:
        volatility = sde.volatility(t0, x, a)
        if x.device.type != "cpu" or not isinstance(volatility, ScalarVolatility):
            return None
        return float(volatility.value[0]) if shared(volatility.value) else None

    def driving(
        self, sde: UncontrolledVolatilitySDE, t0: Time, t1: Time, x: State, a: Action, v: State
    ) -> Noise:
        return sde.volatility(t0, x).whiten(v)

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


def gaussian(solver: Scheme | None) -> Solver:
    """The scheme whose law of a step is asked for; Euler–Maruyama by default.

    Raises:
        CtcontrolError: a scheme without such a law, or no scheme at all.
    """
    if solver is None:
        return EulerMaruyama()
    remedy = "take EulerMaruyama()" if isinstance(solver, type) else GAUSSIAN
    check_kind("solver", solver, Solver, remedy)
    assert isinstance(solver, Solver)
    return solver
