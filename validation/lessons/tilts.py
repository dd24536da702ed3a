"""Mixture tilts, learned by small networks on top of the pretrained score."""

import numpy as np
import torch
from torch import Tensor, nn

from ctcontrol import (
    Context,
    CosSin,
    Estimate,
    GaussianPolicy,
    PinnedValue,
    Policy,
    State,
    Time,
    TimeGrid,
    regret,
    simulate,
)
from ctcontrol.exact.tilt import GaussianMixture, MixtureTilt, VariancePreserving
from validation._problems import seeded
from validation.lessons.course import Course

WIDTH = 64
"""Hidden units of a layer."""


class Network(nn.Module):
    """(t, x) -> (batch, outputs), two layers of tanh beside a linear map; 0 at first."""

    def __init__(self, d: int, outputs: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Linear(d + 1, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()
            ).double()
        self.last = nn.Linear(WIDTH + d + 1, outputs, dtype=torch.float64)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, t: Tensor, x: Tensor, context: object = None) -> Tensor:
        given = torch.cat([t[:, None], x], 1)
        out = self.last(torch.cat([self.body(given), given], 1))
        return out if out.shape[1] > 1 else out[:, 0]


class CorrectedScore(nn.Module):
    """The pretrained score plus what is learned."""

    def __init__(self, tilt: MixtureTilt, seed: int) -> None:
        super().__init__()
        self.tilt = tilt
        self.correction = Network(tilt.data.dimension, tilt.data.dimension, seed)

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.tilt.pretrained_score(t, x, None) + self.correction(t, x)


def tilted(d: int) -> MixtureTilt:
    """Four modes, as far apart in every dimension, and a reward along the diagonal."""
    draw = np.random.default_rng(100 + d)
    data = GaussianMixture.of(
        [0.4, 0.3, 0.2, 0.1], 1.7 / d**0.5 * draw.standard_normal((4, d)), [0.3, 0.2, 0.3, 0.2]
    )
    linear = np.full(d, 1.0 / d**0.5)
    return MixtureTilt(
        VariancePreserving(0.1, 8.0), data, linear=linear, quadratic=0.2, kl_weight=0.5
    )


def tilt(d: int, iterations: int, batch: int, bound: float) -> Course:
    """From the pretrained score. J* − J = κ KL(P ‖ P*), from 4000 paths with common noise."""
    problem = tilted(d)
    control, grid = problem.problem(), TimeGrid.uniform(1.0, 20)
    best = GaussianPolicy(problem.optimal_score)

    def guess(t: Time, x: State, context: Context, mean: Tensor | None) -> Tensor:
        alpha, variance = problem.level(t)
        score = problem.pretrained_score(t, x, None)
        return problem.reward((x + variance[:, None] * score) / alpha[:, None])

    def of(policy: Policy) -> Estimate:
        assert isinstance(policy, GaussianPolicy)
        run = simulate(control, GaussianPolicy(policy.mean), grid, 4000, generator=seeded(0))
        return regret(control, best, run)

    return Course(
        title=f"mixture tilt, {d} dimensions",
        problem=control,
        grid=grid,
        policy=lambda seed: GaussianPolicy(CorrectedScore(problem, seed), 0.7),
        value=lambda seed: PinnedValue(guess, Network(d, 1, seed + 1), CosSin(1.0)),
        slopes=lambda seed: Network(d, d, seed + 2),
        regret=of,
        bound=bound,
        batch=batch,
        iterations=iterations,
        rates=(0.01, 0.01),
        variants={"moving": "path KL is of a score that acts, and has no meaning for a state"},
    )
