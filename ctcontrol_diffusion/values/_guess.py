"""What is known of a value before anything is learned: the reward of what one sees."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol import Context, MeanFunction, Scalar, State, Time
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.values._denoised import Denoised

Judge = Callable[[Tensor, Context], Tensor]
"""(states, context) -> (batch,)."""


def _at_the_end(
    horizon: float, t: Time, x: State, context: Context, guess: Scalar, terminal: Judge
) -> Scalar:
    """The guess, but h(x) at the horizon, where the value is known."""
    at_end = t >= horizon - 1e-6
    return torch.where(at_end, terminal(x, context), guess) if at_end.any() else guess


@dataclass(frozen=True, eq=False)
class DenoisedGuess:
    """r(x̂₀(t, x)): the terminal reward of the posterior mean; r(x) itself at the horizon.

    For a linear reward this is the value of the undisturbed model; in general it misses
    O(σ²) (docs/theory, value-network links). With the policy's mean action given it costs no
    evaluation of the score (`Denoised`).

    Attributes:
        score: evaluated only when the mean action is not given.
        schedule: α and σ.
        reward: of clean states, (x̂₀, context) -> (batch,).
        terminal: h, of states at the horizon, (x, context) -> (batch,).
        data_variance: v, mean variance of a coordinate of the data.
    """

    score: MeanFunction
    schedule: Schedule
    reward: Judge
    terminal: Judge
    data_variance: float

    def __call__(self, t: Time, x: State, context: Context, mean: Tensor | None = None) -> Scalar:
        denoised = Denoised(self.score, self.schedule, self.data_variance)
        guess = self.reward(denoised(t, x, context, mean), context)
        return _at_the_end(self.schedule.horizon, t, x, context, guess, self.terminal)


@dataclass(frozen=True, eq=False)
class OriginalGuess:
    """r(x): the reward of the noisy state as if it were clean; h(x) at the horizon.

    Attributes:
        schedule: knows the horizon.
        reward: of clean states, (x, context) -> (batch,).
        terminal: h, of states at the horizon, (x, context) -> (batch,).
    """

    schedule: Schedule
    reward: Judge
    terminal: Judge

    def __call__(self, t: Time, x: State, context: Context, mean: Tensor | None = None) -> Scalar:
        guess = self.reward(x, context)
        return _at_the_end(self.schedule.horizon, t, x, context, guess, self.terminal)


@dataclass(frozen=True, eq=False)
class NoGuess:
    """0 before the horizon and h(x) there: nothing is known, and the reward is never asked.

    Attributes:
        schedule: knows the horizon.
        terminal: h, of states at the horizon, (x, context) -> (batch,).
    """

    schedule: Schedule
    terminal: Judge

    def __call__(self, t: Time, x: State, context: Context, mean: Tensor | None = None) -> Scalar:
        nothing = x.new_zeros(len(x))
        return _at_the_end(self.schedule.horizon, t, x, context, nothing, self.terminal)
