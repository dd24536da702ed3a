"""The noise-aware and the generalized advantage: by hand, unbiased, and their limits."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.problems import ChainValue, LinearProblem, regulator, trajectory
from tests.tables import Network

SOLVER = ct.EulerMaruyama()
GRID = ct.TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def _value() -> ct.PinnedValue:
    return ct.PinnedValue(lambda t, x, c, mean: x.square().sum(1), Network(2), ct.Linear(1.0))


def _path() -> ct.Trajectory:
    return trajectory(ct.TimeGrid.from_times([0.0, 0.2, 0.5, 1.0]), batch=3, discount=0.8)


def test_noise_aware_by_a_double_loop() -> None:
    """Only the noise of *later* steps goes: that of the step itself is what the action did."""
    path, value, problem = _path(), _value(), regulator().problem
    rates = ct.NoiseAwareAdvantage()(problem, SOLVER, value, path)
    slopes = ct.gradients_along(value, path, through_mean=False)
    v, times = ct.values_along(value, path), path.grid.times.tolist()
    for j in range(3):
        for i in range(3):
            noise = sum(
                math.exp(-0.8 * (times[m] - times[j]))
                * float(slopes[m, i] @ path.innovations[m, i])
                for m in range(j + 1, 3)
            )
            total = float(path.return_to_go()[j, i] - v[j, i]) - noise
            assert math.isclose(float(rates[j, i]), total / (times[j + 1] - times[j]))


def test_generalized_by_a_double_loop() -> None:
    path, value, problem = _path(), _value(), regulator().problem
    rates = ct.GeneralizedAdvantage(decay=1.5)(problem, SOLVER, value, path)
    v, times = ct.values_along(value, path), path.grid.times.tolist()
    for j in range(3):
        total = torch.zeros(3, dtype=torch.float64)
        for m in range(j, 3):
            dt = times[m + 1] - times[m]
            gain = path.rewards[m] * dt - 0.7 * path.penalties[m]
            delta = math.exp(-0.8 * dt) * v[m + 1] - v[m] + gain
            total += math.exp(-(0.8 + 1.5) * (times[m] - times[j])) * delta
        assert_close(rates[j], total / (times[j + 1] - times[j]))


def test_the_generalized_advantage_lies_between_monte_carlo_and_temporal_differences() -> None:
    path, value, problem = _path(), _value(), regulator().problem

    def rates(estimator: ct.AdvantageEstimator) -> Tensor:
        return estimator(problem, SOLVER, value, path)

    assert_close(rates(ct.GeneralizedAdvantage(0.0)), rates(ct.MonteCarloAdvantage()))
    assert_close(rates(ct.GeneralizedAdvantage(1e4)), rates(ct.TemporalDifferenceAdvantage()))
    assert (
        float((rates(ct.GeneralizedAdvantage(1.0)) - rates(ct.MonteCarloAdvantage())).std()) > 0.1
    )


def test_decay_is_per_unit_of_time() -> None:
    """Along one path of a smooth motion, refining the grid leaves the rates where they were."""
    coarse, fine = ct.TimeGrid.uniform(1.0, 100), ct.TimeGrid.uniform(1.0, 200)
    found, value = [], _value()
    for grid in (coarse, fine):
        t = grid.times[:, None, None]
        path = trajectory(grid, batch=1)
        path = replace(
            path,
            states=torch.cat([t.sin(), t.square()], -1),
            rewards=torch.ones(grid.steps, 1, dtype=torch.float64),
            penalties=torch.zeros(grid.steps, 1, dtype=torch.float64),
        )
        sums = ct.GeneralizedAdvantage(3.0)(regulator().problem, SOLVER, value, path)
        found.append(sums * path.lengths)
    assert_close(found[1][::2][:90], found[0][:90], 0.02)


def test_a_bad_decay_is_named() -> None:
    for bad in (-1.0, math.inf):
        with pytest.raises(
            ct.CtcontrolError, match=f"decay must be a finite number >= 0, got {bad}"
        ):
            ct.GeneralizedAdvantage(bad)


def _advantage(linear: LinearProblem, path: ct.Trajectory, j: int, later: ChainValue) -> Tensor:
    """The exact advantage rate of the chain at step j, up to what no action changes."""
    dt, t = float(GRID.lengths[j]), path.times(j)
    decay, out = math.exp(-linear.discount * dt), []
    for u in (path.actions[j], path.means[j]):
        y = SOLVER.mean(linear.sde, t, t + dt, path.states[j], u, None)
        running = linear.reward.running(t, path.states[j], u, None)
        out.append(decay * later.at(t + dt, y, None) / dt + running)
    return out[0] - out[1]


@pytest.mark.parametrize("estimator", [ct.NoiseAwareAdvantage(), ct.MonteCarloAdvantage()])
def test_unbiased_whatever_the_value(estimator: ct.AdvantageEstimator) -> None:
    """E[(rate − A)(a − μ)φ(x)] = 0 with a value that is badly wrong; TD fails this."""
    linear = regulator(kl_weight=0.5)
    policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
    path = ct.simulate(linear.problem, policy, GRID, 40_000, generator=seeded(5))
    right = ChainValue(GRID, linear.values(GRID, K, k, STD))
    wrong = ct.LinearValue(lambda t, x, c: x, 2)
    torch.nn.init.constant_(wrong.theta, 4.0)
    rates = estimator(linear.problem, SOLVER, wrong, path)
    bootstrapped = ct.TemporalDifferenceAdvantage()(linear.problem, SOLVER, wrong, path)
    worst = 0.0
    for j in range(GRID.steps):
        exact = _advantage(linear, path, j, right)
        delta, x = (path.actions[j] - path.means[j]) / 0.4, path.states[j]
        assert_mean((rates[j] - exact)[:, None] * delta, 0.0)
        assert_mean((rates[j] - exact)[:, None, None] * delta[:, :, None] * x[:, None], 0.0)
        off = (bootstrapped[j] - exact)[:, None] * delta
        worst = max(worst, float((off.mean(0).abs() / (off.std(0) / 200)).max()))
    assert worst > 10


def test_its_variance_is_that_of_one_step_with_the_exact_value() -> None:
    """As for TD, and far below Monte Carlo; with V = 0 nothing is subtracted but the baseline."""
    linear, grid = regulator(), ct.TimeGrid.uniform(1.2, 60)
    policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
    path = ct.simulate(linear.problem, policy, grid, 2000, generator=seeded(6))
    value = ChainValue(grid, linear.values(grid, K, k, STD))

    def spread(estimator: ct.AdvantageEstimator) -> float:
        return float(estimator(linear.problem, SOLVER, value, path)[:30].var())

    aware, td = spread(ct.NoiseAwareAdvantage()), spread(ct.TemporalDifferenceAdvantage())
    blind = spread(ct.MonteCarloAdvantage())
    assert 0.9 < aware / td < 1.6
    assert aware < 0.1 * blind
    nothing = ct.LinearValue(lambda t, x, c: x, 2)
    rates = ct.NoiseAwareAdvantage()(linear.problem, SOLVER, nothing, path)
    assert_close(rates, path.return_to_go() / path.lengths)


def test_at_the_last_step_it_is_the_monte_carlo_advantage() -> None:
    """No later noise is left to subtract."""
    linear = regulator()
    policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
    path = ct.simulate(linear.problem, policy, GRID, 10, generator=seeded(7))
    value = ChainValue(GRID, linear.values(GRID, K, k, STD))
    aware = ct.NoiseAwareAdvantage()(linear.problem, SOLVER, value, path)
    blind = ct.MonteCarloAdvantage()(linear.problem, SOLVER, value, path)
    assert_close(aware[-1], blind[-1])
    assert float((aware[0] - blind[0]).abs().min()) > 1e-3
