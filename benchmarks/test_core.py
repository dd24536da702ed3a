"""What learning costs, and a rollout that keeps every step beside a loop written by hand.

Run with `make bench`. Nothing is asserted: seconds depend on the machine.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from ctcontrol import (
    ActionAdvantage,
    ContinuousPPO,
    ControlProblem,
    EulerMaruyama,
    GaussianPolicy,
    Linear,
    NoiseAwareFit,
    PinnedValue,
    TerminalReward,
    TimeGrid,
    Updater,
    gradients_along,
    improve,
    simulate,
)
from tests.helpers import seeded
from tests.problems import Isotropic, constant
from tests.tables import Network

STEPS, STD = 50, 0.3
GRID = TimeGrid.uniform(1.0, STEPS)


class Score(nn.Module):
    """A small network of (t, x)."""

    def __init__(self, dimension: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(dimension + 1, width), nn.SiLU(), nn.Linear(width, dimension)
        )

    def forward(self, t: Tensor, x: Tensor, context: object = None) -> Tensor:
        return self.body(torch.cat([t[:, None], x], 1))


def _problem(dimension: int) -> ControlProblem:
    return ControlProblem(
        Isotropic(constant(-1.0), constant(1.0), constant(0.5)),
        TerminalReward(lambda x, c: -x.square().sum(1)),
        lambda n, g: (torch.randn(n, dimension, generator=g), None),
        horizon=1.0,
    )


@torch.no_grad()
def _by_hand(score: Score, dimension: int, batch: int, generator: torch.Generator) -> Tensor:
    """The same chain in a loop that knows everything, recording what learning needs."""
    dt = 1.0 / STEPS
    x = torch.randn(batch, dimension, generator=generator)
    record: list[tuple[Tensor, ...]] = []
    for k in range(STEPS):
        mean = score(torch.full((batch,), k * dt), x)
        action = mean + STD * torch.randn(batch, dimension, generator=generator)
        noise = 0.5 * dt**0.5 * torch.randn(batch, dimension, generator=generator)
        foreseen = x + dt * (mean - x)
        following = x + dt * (action - x) + noise
        record.append((x, action, mean, following - foreseen))
        x = following
    stacked = [torch.stack(column) for column in zip(*record, strict=True)]
    return stacked[0].sum() - x.square().sum()


def _best(call: Callable[[], Any], repeats: int = 15) -> float:
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize(("dimension", "width", "batch"), [(64, 256, 512), (3072, 64, 64)])
def test_simulate_against_a_loop_by_hand(
    benchmark: BenchmarkFixture, dimension: int, width: int, batch: int
) -> None:
    """A rollout that keeps every step, beside the loop."""
    torch.manual_seed(0)
    score, problem = Score(dimension, width), _problem(dimension)
    policy = GaussianPolicy(score, STD)

    def ours() -> object:
        return simulate(problem, policy, GRID, batch, generator=seeded())

    hand = _best(lambda: _by_hand(score, dimension, batch, seeded()))
    ratio = _best(ours) / hand
    benchmark.extra_info.update(
        steps=STEPS, dimension=dimension, batch=batch, device="cpu", over_by_hand=round(ratio, 3)
    )
    benchmark.pedantic(ours, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("hessian", [False, True])
def test_jet(benchmark: BenchmarkFixture, hessian: bool) -> None:
    """A value with its derivatives."""
    value = PinnedValue(
        lambda t, x, c, mean: -x.square().sum(1), Network(16, torch.float32), Linear(1.0)
    )
    t, x = torch.rand(1024), torch.randn(1024, 16)
    benchmark.extra_info.update(rows=1024, dimension=16, hessian=hessian)
    benchmark.pedantic(lambda: value.jet(t, x, None, hessian=hessian), rounds=10, warmup_rounds=2)


def test_gradients_along_a_trajectory(benchmark: BenchmarkFixture) -> None:
    """Gradients of a value along a rollout."""
    problem, policy = _problem(16), GaussianPolicy(Score(16, 64), STD)
    value = PinnedValue(
        lambda t, x, c, mean: -x.square().sum(1), Network(16, torch.float32), Linear(1.0)
    )
    path = simulate(problem, policy, GRID, 256, generator=seeded())
    benchmark.extra_info.update(rows=256 * STEPS, dimension=16)
    benchmark.pedantic(
        lambda: gradients_along(value, path, through_mean=False), rounds=5, warmup_rounds=1
    )


def test_one_iteration(benchmark: BenchmarkFixture) -> None:
    """One iteration of learning."""
    torch.manual_seed(0)
    problem, policy = _problem(16), GaussianPolicy(Score(16, 64), STD)
    value = PinnedValue(
        lambda t, x, c, mean: -x.square().sum(1), Network(16, torch.float32), Linear(1.0)
    )
    run = improve(
        problem,
        policy,
        ContinuousPPO(advantage=ActionAdvantage()),
        GRID,
        batch=256,
        minibatch=1024,
        updater=Updater.adam(policy, 1e-3),
        generator=seeded(),
        value=value,
        critic=NoiseAwareFit(minibatch=1024),
        critic_updater=Updater.adam(value, 1e-3),
        solver=EulerMaruyama(),
    )
    benchmark.extra_info.update(paths=256, steps=STEPS, dimension=16)
    benchmark.pedantic(lambda: next(run), rounds=3, warmup_rounds=1)
