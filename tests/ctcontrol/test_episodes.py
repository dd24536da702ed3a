"""Paths driven from outside: the same chain and the same return as a rollout's."""

from dataclasses import replace

import pytest
import torch

from ctcontrol import (
    CtcontrolError,
    Episodes,
    GaussianPolicy,
    NumericalError,
    ShapeError,
    TimeGrid,
    simulate,
)
from tests.helpers import assert_close, seeded
from tests.problems import regulator

GRID = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])


@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
def test_it_is_the_rollout_turned_inside_out(kl_weight: float) -> None:
    """Same generator, same deterministic actions: the same states, bit for bit, and returns."""
    linear = regulator(kl_weight=kl_weight)
    policy = GaussianPolicy(linear.mean(linear.zero + 0.3, linear.k0 + 0.2))
    path = simulate(linear.problem, policy, GRID, 7, generator=seeded(1))
    episodes = Episodes(linear.problem, GRID, 7, generator=seeded(1))
    total, weight = torch.zeros(7, dtype=torch.float64), 1.0
    for k in range(GRID.steps):
        assert torch.equal(episodes.state, path.states[k])
        assert episodes.time == float(GRID.times[k])
        assert not episodes.ended
        factor = episodes.discount_factor
        total += weight * episodes.step(path.actions[k])
        weight *= factor
    assert episodes.ended
    assert torch.equal(episodes.state, path.final)
    assert_close(total, path.returns())


def test_episodes_begin_again_with_other_noise() -> None:
    linear = regulator()
    episodes = Episodes(linear.problem, GRID, 3, generator=seeded(1))
    first = episodes.state
    assert not torch.equal(episodes.reset(), first)
    assert episodes.time == 0.0


class TestDoors:
    def test_entropy_is_not_seen(self) -> None:
        with pytest.raises(CtcontrolError, match="sees actions, not the entropy of the policy"):
            Episodes(regulator(temperature=0.1).problem, GRID, 3, generator=seeded())

    def test_the_grid_is_that_of_the_problem(self) -> None:
        with pytest.raises(CtcontrolError, match=r"the grid runs over \[0, 1\] but the problem"):
            Episodes(regulator().problem, TimeGrid.uniform(1.0, 3), 3, generator=seeded())

    def test_actions(self) -> None:
        episodes = Episodes(regulator().problem, GRID, 3, generator=seeded())
        with pytest.raises(ShapeError, match=r"shape \(3, ...\), got \(2, 2\)"):
            episodes.step(torch.zeros(2, 2, dtype=torch.float64))
        for _ in range(GRID.steps):
            episodes.step(torch.zeros(3, 2, dtype=torch.float64))
        with pytest.raises(CtcontrolError, match=r"reached the horizon; call reset\(\) first"):
            episodes.step(torch.zeros(3, 2, dtype=torch.float64))

    def test_numbers_that_are_not_finite(self) -> None:
        episodes = Episodes(replace(regulator().problem), GRID, 3, generator=seeded())
        with pytest.raises(NumericalError, match=r"NaN or infinite at t = 0.1; take smaller"):
            episodes.step(torch.full((3, 2), torch.nan, dtype=torch.float64))
