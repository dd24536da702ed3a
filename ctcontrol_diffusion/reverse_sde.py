"""Sampling from a diffusion model as a controlled SDE whose action is the score."""

from dataclasses import dataclass

from ctcontrol import (
    Action,
    AdditiveNoiseSDE,
    Context,
    ElementwiseActionSDE,
    Scalar,
    ScalarVolatility,
    State,
    Time,
    Volatility,
    like,
)
from ctcontrol_diffusion.schedule import Schedule


@dataclass(frozen=True)
class ReverseSDE(ElementwiseActionSDE, AdditiveNoiseSDE):
    """dY = [½β Y + β a] dt + √β dW in control time, β at s = 1 − t (docs/theory: reverse SDE).

    With a = ∇log p_s the law of Y_t is p_{1−t}: the time reversal of the forward process
    (Anderson 1982; Song et al. 2021, eq. 6). The sign of the drift is +½β Y. Where α² + σ² is not
    1 (flow matching), d log α/dt stands for ½β in front of Y.
    """

    schedule: Schedule

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return like(self.schedule.growth(t), x) * x

    def action_gain(self, t: Time) -> Scalar:
        return self.schedule.beta(t)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return ScalarVolatility(self.schedule.beta(t).sqrt())
