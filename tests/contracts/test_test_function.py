"""The contract of `TestFunction`: adapted, so that the value of the policy is orthogonal to it."""

import torch

import ctcontrol as ct
from tests.helpers import assert_close, assert_covers, assert_mean, normal, seeded
from tests.problems import ChainValue, regulator
from tests.tables import TEST_FUNCTIONS, Row, kinds, over

GRID = ct.TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def _linear_value() -> ct.LinearValue:
    return ct.LinearValue(lambda t, x, c: (1.2 - t[:, None]) * x, 2)


def test_every_implementation_has_a_row() -> None:
    assert_covers(ct.TestFunction, kinds(TEST_FUNCTIONS))


@over(TEST_FUNCTIONS)
class TestTestFunction:
    def test_it_is_numbers_not_graphs(self, case: Row) -> None:
        linear = regulator()
        policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
        path = ct.simulate(linear.problem, policy, GRID, 6, generator=seeded())
        xi = case.make()(_linear_value(), path)
        assert xi.shape == (GRID.steps, 6, case.count)
        assert not xi.requires_grad

    def test_it_knows_nothing_of_the_future(self, case: Row) -> None:
        linear = regulator()
        policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
        path = ct.simulate(linear.problem, policy, GRID, 6, generator=seeded())
        before = case.make()(_linear_value(), path)
        path.states[3:] += 1.0
        after = case.make()(_linear_value(), path)
        assert_close(after[:3], before[:3], 1e-15)
        assert float((after[3] - before[3]).abs().min()) > 0 or case.count == 5

    def test_the_value_of_the_policy_is_orthogonal_to_it(self, case: Row) -> None:
        linear = regulator(kl_weight=0.5)
        policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
        path = ct.simulate(linear.problem, policy, GRID, 20_000, generator=seeded(3))
        value = ChainValue(GRID, linear.values(GRID, K, k, STD))
        shrink = (-0.4 * path.lengths).exp()
        v = ct.values_along(value, path)
        delta = shrink * v[1:] - v[:-1] + path.gains
        xi = case.make()(_linear_value(), path)
        weight = (-0.4 * GRID.times[:-1]).exp()[:, None, None]
        assert_mean((weight * xi * delta[..., None]).sum(0), 0.0)
        wrong = delta + 0.1 * path.lengths
        assert float(((weight * xi * wrong[..., None]).sum(0).mean(0)).abs().max()) > 0.03
