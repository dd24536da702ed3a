"""The contract of `Critic`: the exact value is where its regression stands still."""

import pytest
import torch

from ctcontrol import (
    Critic,
    CtcontrolError,
    GaussianPolicy,
    Linear,
    PinnedValue,
    TimeGrid,
    Trajectory,
    simulate,
)
from tests.helpers import assert_close, assert_covers, assert_mean, normal, seeded
from tests.problems import ChainValue, LinearProblem, regulator
from tests.tables import CRITICS, Network, Row, kinds, over

GRID = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def test_every_implementation_has_a_row() -> None:
    assert_covers(Critic, kinds(CRITICS))


def _rollout(case: Row, batch: int) -> tuple[LinearProblem, Trajectory, ChainValue]:
    linear = regulator(**{case.facts.get("regularizer", "kl_weight"): 0.5})
    policy = GaussianPolicy(linear.mean(K, k), 0.4)
    path = simulate(linear.problem, policy, GRID, batch, generator=seeded(3))
    return linear, path, ChainValue(GRID, linear.values(GRID, K, k, STD))


@over(CRITICS)
class TestCritic:
    def test_targets_are_numbers_not_graphs(self, case: Row) -> None:
        _, path, value = _rollout(case, 6)
        targets = case.make().targets(value, path)
        assert targets.shape == (GRID.steps, 6)
        assert not targets.requires_grad
        assert bool(torch.isfinite(targets).all())

    def test_mean_target_given_the_state_is_the_value(self, case: Row) -> None:
        """E[(target − V) φ(X_k)] = 0 for φ = 1, x, |x|²: the regression has its optimum at V."""
        linear, path, value = _rollout(case, 20_000)
        targets = case.make().targets(value, path)
        for j, exact in enumerate(linear.values(GRID, K, k, STD)[:-1]):
            x = path.states[j]
            error = (targets[j] - exact(x))[:, None]
            features = torch.cat([torch.ones_like(error), x, x.square()], 1)
            assert_mean(error * features, 0.0)

    def test_whatever_the_value_the_target_is_unbiased(self, case: Row) -> None:
        if case.bootstraps:
            pytest.skip("a bootstrapped target is as wrong as the value it is made from")
        linear, path, _ = _rollout(case, 20_000)
        wrong = ChainValue(GRID, regulator().values(GRID, 3 * K, -k, STD))
        targets = case.make().targets(wrong, path)
        for j, exact in enumerate(linear.values(GRID, K, k, STD)[:-1]):
            x = path.states[j]
            assert_mean((targets[j] - exact(x))[:, None] * torch.cat([1 + 0 * x, x], 1), 0.0)

    def test_loss_is_half_the_mean_square(self, case: Row) -> None:
        _, path, _ = _rollout(case, 9)
        critic, network = case.make(), Network(2)

        guess = PinnedValue(lambda t, x, c, mean: x.sum(1), network, Linear(1.2))
        rows = critic.rows(guess, path)
        loss = critic.loss(guess, rows)
        assert rows.target is not None
        errors = [
            guess.at(rows.t0[i : i + 1], rows.x[i : i + 1], None) - rows.target[i]
            for i in range(len(rows))
        ]
        assert_close(loss, torch.cat(errors).square().mean() / 2)
        loss.backward()
        assert all(p.grad is not None for p in network.parameters())

    @pytest.mark.parametrize(
        ("field", "bad", "says"),
        [
            ("epochs", 0, "critic epochs must be a whole number >= 1, got 0"),
            ("epochs", 1.5, "critic epochs must be a whole number >= 1, got 1.5"),
            ("minibatch", 0, "critic minibatch must be a whole number >= 1, got 0"),
            ("share", 0.0, r"critic share must lie in \(0, 1\], got 0.0"),
            ("share", 1.2, r"critic share must lie in \(0, 1\], got 1.2"),
        ],
    )
    def test_bad_numbers_are_named(self, case: Row, field: str, bad: float, says: str) -> None:
        with pytest.raises(CtcontrolError, match=says):
            case.make(**{field: bad})
