"""States along rollouts of the pretrained model, and what they are worth."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctcontrol import Context, Scalar, State, Time, Value, estimate_value, simulate
from ctcontrol_diffusion.build import Experiment

SEED = 30_000


@dataclass(frozen=True, eq=False)
class Level:
    """Some states at one node, with their values under the pretrained model.

    Attributes:
        node: of the grid.
        t: (states,), its time.
        x: (states, *state).
        context: one entry a state.
        mean: (states, *state), the pretrained score at (t, x).
        value: (states,), Monte-Carlo estimates of V.
        stderr: (states,), their standard errors.
    """

    node: int
    t: Time
    x: State
    context: Context
    mean: Tensor
    value: Scalar
    stderr: Scalar


@dataclass(frozen=True)
class Miss:
    """A root mean square error.

    Attributes:
        square: E (V̂ − V)²; that of the estimates of V is taken off, so that it may be below 0.
        stderr: of the square, from state to state.
    """

    square: float
    stderr: float


def levels_of(experiment: Experiment, count: int, states: int, draws: int) -> list[Level]:
    """`count` nodes, evenly from the first to the last; the same states for every value network.

    The experiment is as it was built: its policy is the pretrained model, whose KL to itself is
    0 and need not be computed.
    """
    setting, grid = experiment.setting, experiment.grid
    generator = torch.Generator(experiment.generator.device).manual_seed(SEED)
    problem = replace(setting.problem, regularizer=None)
    path = simulate(
        problem, experiment.policy, grid, states, generator=generator, solver=setting.solver
    )
    nodes = sorted({round(k * (grid.steps - 1) / max(1, count - 1)) for k in range(count)})
    levels: list[Level] = []
    for node in nodes:
        found = estimate_value(
            problem,
            experiment.policy,
            grid,
            node,
            path.states[node],
            path.context,
            draws,
            generator=generator,
            solver=setting.solver,
            at_once=experiment.config.micro_batch or 1024,
        )
        where = path.times(node), path.states[node], path.context
        levels.append(Level(node, *where, path.means[node], found.mean, found.stderr))
    return levels


@torch.no_grad()
def miss(value: Value, level: Level) -> Miss:
    """How far V̂ is from V, over the states of a level."""
    guess = value.at(level.t, level.x, level.context, level.mean)
    squares = (guess - level.value).square() - level.stderr.square()
    return Miss(float(squares.mean()), float(squares.std()) / len(squares) ** 0.5)


def spread(level: Level) -> Miss:
    """The error of the best constant: the variance of V from state to state."""
    squares = (level.value - level.value.mean()).square() - level.stderr.square()
    return Miss(float(squares.mean()), float(squares.std()) / len(squares) ** 0.5)
