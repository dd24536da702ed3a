"""Sampling from a diffusion model, for any linear forward process and any amount of noise."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._checks import check_nonnegative
from ctcontrol._reward import Reward
from ctcontrol._sde import AdditiveNoiseSDE, ElementwiseActionSDE
from ctcontrol._tensor import inner, like, of_time
from ctcontrol._typing import Action, Context, MeanFunction, Scalar, State, Time
from ctcontrol._volatility import ScalarVolatility, Volatility
from ctcontrol.exact.tilt._schedule import ForwardProcess


@dataclass(frozen=True)
class Reversal(ElementwiseActionSDE, AdditiveNoiseSDE):
    """dY = [−fY + ½(1 + η²)g²a]dt + ηg dW, f and g at s = T − t; the action a is a score.

    With a = ∇log p_s the law of Y_t is p_{T−t} for every η: η = 1 is the time reversal of the
    forward process (Anderson 1982), η = 0 its probability-flow ODE (Song et al. 2021), and what
    lies between is stochastic DDIM in continuous time. (docs/theory, reverse SDE.)

    Attributes:
        forward: the forward process.
        eta: η ≥ 0.
    """

    forward: ForwardProcess
    eta: float = 1.0

    def __post_init__(self) -> None:
        check_nonnegative("eta", self.eta)

    def _clock(self, t: Time) -> Tensor:
        return self.forward.horizon - t

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return x * like(of_time(lambda t: -self.forward.pull(self._clock(t)), t), x)

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return torch.addcmul(self.free_drift(t, x, context), like(self.action_gain(t), a), a)

    def action_gain(self, t: Time) -> Scalar:
        share = 0.5 * (1 + self.eta**2)
        return of_time(lambda t: share * self.forward.intensity(self._clock(t)), t)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return ScalarVolatility(
            of_time(lambda t: self.eta * self.forward.intensity(self._clock(t)).sqrt(), t)
        )


@dataclass(frozen=True, eq=False)
class ScorePenaltyReward(Reward):
    """−½w g²(T − t)|a − s_pre(t, x)|² per unit of time, and h at the end.

    It sees the drawn action, so exploration N(μ, Σ) costs ½w g² tr Σ; `PathKL` sees the mean. With
    w = 2 this is the penalty of Gao, Zha and Zhou (2024), twice the rate of path KL at η = 1.

    Attributes:
        forward: the forward process.
        reference: s_pre.
        weight: w ≥ 0, reward per unit of ½g²|a − s_pre|².
        end: h, (state, context) -> (batch,).
    """

    forward: ForwardProcess
    reference: MeanFunction
    weight: float
    end: Callable[[Tensor, Context], Tensor]

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        gap = a - self.reference(t, x, context)
        return (
            -0.5 * self.weight * self.forward.intensity(self.forward.horizon - t) * inner(gap, gap)
        )

    def terminal(self, x: State, context: Context) -> Scalar:
        return self.end(x, context)
