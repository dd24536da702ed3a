"""Occupation laws and random horizons, against stationary closed forms."""

import math
from dataclasses import replace

import pytest
import torch

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy, LQProblem, StationaryLQ
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.problems import trajectory

OU = LQProblem(
    A=[[-0.9]], B=[[1.0]], Q=[[1.0]], R=[[0.5]], G=[[0.0]], volatility=0.7, horizon=14.0,
    initial_mean=[1.2], discount=0.5,
)  # fmt: skip
NOTHING = LinearGaussianPolicy([[0.0]])


def _path(batch: int, steps: int = 280) -> ct.Trajectory:
    grid = ct.TimeGrid.uniform(OU.horizon, steps)
    return ct.simulate(OU.problem(), NOTHING, grid, batch, generator=seeded(1))


def test_draws_have_the_normalised_occupation_law() -> None:
    """E_d x² = (ρx₀² + σ²)/(ρ + 2k) = 0.52608696 and E_d x = ρx₀/(ρ + k), not 1/ρ times that."""
    path = _path(4000)
    rows = ct.sample_occupation(path, 5, generator=seeded(2))
    assert len(rows) == 20_000
    x = rows.x[:, 0].reshape(5, 4000).mean(0)
    assert_mean(x, 0.5 * 1.2 / 1.4, bias=0.03)
    square = rows.x[:, 0].square().reshape(5, 4000).mean(0)
    assert_mean(square, 0.5260869565, bias=0.03)
    mean, second = StationaryLQ(OU).occupation(NOTHING)
    assert math.isclose(mean[0], 0.6 / 1.4)
    assert math.isclose(second[0, 0], 0.5260869565, rel_tol=1e-9)


def test_the_return_is_the_mass_times_the_mean_reward() -> None:
    """η = E_d[r]/ρ."""
    path = _path(2000)
    rows = ct.sample_occupation(path, 5, generator=seeded(3))
    reward = OU.problem().reward.running(rows.t0, rows.x, rows.action, None)
    mass = ct.occupation_mass(path.grid, 0.5)
    assert abs(mass - 2.0) < 0.05
    samples = mass * reward.reshape(5, 2000).mean(0)
    assert_mean(samples, StationaryLQ(OU).expected_return(NOTHING), bias=0.1)


def test_losses_have_the_same_mean_over_draws_as_over_all_rows() -> None:
    """steps · mean(weight · Δ · f) on an uneven grid; a second e^{−ρt} in the weight fails."""
    grid = ct.TimeGrid.from_times([0.0, 0.1, 0.4, 0.5, 1.3, 2.0])
    path, f = trajectory(grid, batch=4, discount=0.8), normal(5, 4, seed=9)

    def loss(rows: ct.Transitions) -> torch.Tensor:
        assert rows.signal is not None
        return rows.steps * (rows.weight * (rows.t1 - rows.t0) * rows.signal)

    everything = loss(path.transitions(signal=f)).mean()
    drawn = loss(ct.sample_occupation(path, 50_000, generator=seeded(4), signal=f))
    assert_mean(drawn, float(everything))
    rows = ct.sample_occupation(path, 3, generator=seeded(5), target=f)
    assert rows.target is not None
    assert rows.steps == 5
    total = ct.occupation_mass(grid, 0.8)
    assert_close(5 * rows.weight * (rows.t1 - rows.t0), total)
    # every path has its draws
    assert torch.equal(rows.context.sort().values, path.context.repeat(3).sort().values)


def test_without_discount_time_is_drawn_uniformly() -> None:
    grid = ct.TimeGrid.from_times([0.0, 0.5, 2.0])
    assert ct.occupation_mass(grid, 0.0) == 2.0
    rows = ct.sample_occupation(trajectory(grid, 2), 20_000, generator=seeded(6))
    assert_mean((rows.t0 == 0).double(), 0.25)


def test_a_random_horizon_is_exponential() -> None:
    generator = seeded(7)
    grids = [ct.random_horizon(0.5, 0.3, generator=generator) for _ in range(4000)]
    horizons = torch.tensor([g.horizon for g in grids])
    assert_mean(horizons, 2.0)
    assert_mean((horizons > 3).double(), math.exp(-1.5))
    assert all(float(g.lengths.max()) <= 0.3 + 1e-12 for g in grids)
    assert all(g.steps == math.ceil(g.horizon / 0.3 - 1e-12) for g in grids)


def test_undiscounted_up_to_a_random_horizon_is_the_discounted_return() -> None:
    """Rollouts are the independent samples; one with the discount left in place is too low."""
    generator, problem = seeded(8), OU.problem()
    plain, twice = [], []
    for _ in range(400):
        grid = ct.random_horizon(0.5, 0.1, generator=generator)
        stopped = ct.without_discount(problem, grid)
        path = ct.simulate(stopped, NOTHING, grid, 20, generator=generator)
        plain.append(path.returns().mean())
        twice.append(replace(path, discount=0.5).returns().mean())
    exact = StationaryLQ(OU).expected_return(NOTHING)
    assert_mean(torch.stack(plain), exact, bias=0.05)
    assert abs(float(torch.stack(twice).mean()) - exact) > 0.2


def test_bad_numbers_are_named() -> None:
    with pytest.raises(ct.CtcontrolError, match="draws must be a whole number >= 1, got 0"):
        ct.sample_occupation(trajectory(ct.TimeGrid.uniform(1.0, 2)), 0, generator=seeded())
    with pytest.raises(ct.CtcontrolError, match=r"discount must be a finite number > 0, got 0\.0"):
        ct.random_horizon(0.0, 0.1, generator=seeded())
    with pytest.raises(ct.CtcontrolError, match=r"step must be a finite number > 0, got 0\.0"):
        ct.random_horizon(0.5, 0.0, generator=seeded())
