"""The contract of `AdvantageEstimator`: rates whose dependence on the action is that of q."""

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    AdvantageEstimator,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    TimeGrid,
    simulate,
)
from ctcontrol.exact.lq import AdvantageRate, LinearGaussianPolicy
from tests.helpers import assert_close, assert_covers, assert_mean, normal, seeded
from tests.problems import exact_for, exact_rates, regulator
from tests.tables import ADVANTAGES, Row, kinds, over, plant

SOLVER = EulerMaruyama()
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def test_every_implementation_has_a_row() -> None:
    assert_covers(AdvantageEstimator, kinds(ADVANTAGES))


@over(ADVANTAGES)
class TestAdvantage:
    def test_rates_are_numbers_not_graphs(self, case: Row) -> None:
        linear, grid = regulator(kl_weight=0.5), TimeGrid.uniform(1.2, 5)
        policy = GaussianPolicy(linear.mean(K, k), 0.4)
        path = simulate(linear.problem, policy, grid, 7, generator=seeded())
        value = exact_for(case.exact, linear, grid, policy, linear.values(grid, K, k, STD))
        state = torch.get_rng_state()
        rates = case.make()(linear.problem, SOLVER, value, path)
        assert rates.shape == (5, 7)
        assert rates.dtype == path.states.dtype
        assert not rates.requires_grad
        assert torch.equal(state, torch.get_rng_state())
        assert all(p.grad is None for p in policy.parameters())

    def test_a_missing_value_is_named(self, case: Row) -> None:
        linear, grid = regulator(), TimeGrid.uniform(1.2, 5)
        policy = GaussianPolicy(linear.mean(K, k), 0.4)
        path = simulate(linear.problem, policy, grid, 7, generator=seeded())
        if case.needs_value:
            with pytest.raises(CtcontrolError, match=f"{case.kind.__name__} needs a value.*give"):
                case.make()(linear.problem, SOLVER, None, path)
        else:
            assert case.make()(linear.problem, SOLVER, None, path).shape == (5, 7)

    @pytest.mark.parametrize("regularizer", ["kl_weight", "temperature"])
    def test_covariance_with_the_action_is_that_of_the_chain(
        self, case: Row, regularizer: str
    ) -> None:
        """E[(rate − A)(a − μ)] = 0 at every node, A the exact advantage of the chain."""
        linear = regulator(**{regularizer: 0.5})
        grid = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
        policy = GaussianPolicy(linear.mean(K, k), 0.4)
        values = linear.values(grid, K, k, STD)
        path = simulate(linear.problem, policy, grid, 20_000, generator=seeded(5))
        value = exact_for(case.exact, linear, grid, policy, values)
        rates = case.make()(linear.problem, SOLVER, value, path)
        for j, (begin, dt) in enumerate(zip(grid.times, grid.lengths, strict=False)):
            x, a, mean = path.states[j], path.actions[j], path.means[j]
            t = begin.expand(len(x))
            step = [SOLVER.mean(linear.sde, t, t + dt, x, u, None) for u in (a, mean)]
            decay = torch.exp(-linear.discount * dt)
            later = [decay * values[j + 1](y) for y in step]
            running = [linear.reward.running(t, x, u, None) for u in (a, mean)]
            advantage = (later[0] - later[1]) / dt + running[0] - running[1]
            error = rates[j] - advantage
            delta = (a - mean) / 0.4
            assert_mean(error[:, None] * delta, 0.0)
            assert_mean(error[:, None, None] * delta[:, :, None] * x[:, None, :], 0.0)

    def test_covariance_with_the_action_is_that_of_q(self, case: Row) -> None:
        """The same against q of continuous time and the value of continuous time: O(Δt)."""
        lq, grid = plant(), TimeGrid.uniform(1.0, 20)
        policy = LinearGaussianPolicy([[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]], [0.2, -0.1], std=0.5)
        path = simulate(lq.problem(), policy, grid, 8000, generator=seeded(6))
        value = exact_rates(lq, policy) if case.exact == "rate" else lq.value(policy)
        rates = case.make()(lq.problem(), SOLVER, value, path)
        q = _q(lq.advantage_rate(policy), path.grid, path.states, path.actions)
        delta = (path.actions - path.means) / 0.5
        # one independent number a path: the mean over time
        error = ((rates - q)[..., None] * delta).mean(0)
        assert_mean(error, 0.0, bias=0.2 * float(grid.lengths[0]))
        assert float((q[..., None] * delta).mean((0, 1)).abs().max()) > 0.3


def _q(rate: AdvantageRate, grid: TimeGrid, states: Tensor, actions: Tensor) -> Tensor:
    return torch.stack(
        [
            torch.as_tensor(rate(float(t), states[j].numpy(), actions[j].numpy()))
            for j, t in enumerate(grid.times[:-1])
        ]
    )


def test_signs_agree_with_an_action_that_is_known_to_be_good() -> None:
    """Reward for moving up: the better of two actions has the larger rate, by every estimator."""
    linear, grid = regulator(discount=0.0), TimeGrid.uniform(1.2, 6)
    policy = GaussianPolicy(linear.mean(K, k), 0.4)
    values = linear.values(grid, K, k, STD)
    path = simulate(linear.problem, policy, grid, 20_000, generator=seeded(7))
    slopes = []
    for case in ADVANTAGES:
        value = exact_for(case.exact, linear, grid, policy, values)
        rates = case.make()(linear.problem, SOLVER, value, path)
        delta = (path.actions - path.means).flatten(0, 1)
        slopes.append((rates.flatten()[:, None] * delta).mean(0))
    for other in slopes[1:]:
        assert_close(other, slopes[0], 0.12)
    assert float(slopes[0].abs().max()) > 0.02
