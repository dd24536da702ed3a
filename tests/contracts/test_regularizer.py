"""The contract of `Regularizer`: recorded in the rollout, recomputed with gradients in the loss."""

from dataclasses import replace

import pytest
import torch

from ctcontrol import (
    CtcontrolError,
    EulerMaruyama,
    Gaussian,
    GaussianPolicy,
    Regularizer,
    simulate,
)
from tests.helpers import assert_close, assert_covers, normal, numerical_gradient, seeded
from tests.problems import regulator
from tests.tables import GRID, REGULARIZERS, Row, kinds, over

SOLVER = EulerMaruyama()


def test_every_implementation_has_a_row() -> None:
    assert_covers(Regularizer, kinds(REGULARIZERS))


@over(REGULARIZERS)
class TestRegularizer:
    def test_rollout_records_what_the_loss_recomputes(self, case: Row) -> None:
        linear, regularizer = regulator(), case.make()
        problem = replace(linear.problem, horizon=1.0, regularizer=regularizer)
        policy = GaussianPolicy(linear.mean(normal(2, 2, seed=1), normal(2, seed=2)), 0.4)
        path = simulate(problem, policy, GRID, 6, generator=seeded(3))
        rows = path.transitions()
        again = regularizer.amount(
            SOLVER, problem.sde, rows.t0, rows.t1, rows.x, rows.law, rows.anchor, rows.context
        )
        assert_close(again.reshape(path.penalties.shape), path.penalties)
        assert path.penalty_weight == regularizer.weight
        gains = path.rewards * path.lengths - regularizer.weight * path.penalties
        assert_close(path.gains, gains)

    def test_amount_is_differentiable_in_the_law(self, case: Row) -> None:
        regularizer, sde = case.make(), regulator().sde
        t0, t1, x = GRID.times[:-1], GRID.times[1:], normal(GRID.steps, 2, seed=4)
        mean, std = normal(GRID.steps, 2, seed=5), normal(GRID.steps, seed=6).abs() + 0.1
        anchor = regularizer.anchor(t0, x, None)

        def amount(m: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
            law = Gaussian(m, s)
            return regularizer.amount(SOLVER, sde, t0, t1, x, law, anchor, None)

        inputs = mean.requires_grad_(), std.requires_grad_()
        slopes = torch.autograd.grad(amount(*inputs).sum(), inputs, materialize_grads=True)
        with torch.no_grad():
            assert_close(slopes[0], numerical_gradient(lambda m: amount(m, std), mean), 1e-7)
            assert_close(slopes[1], numerical_gradient(lambda s: amount(mean, s), std), 1e-7)
        assert any(bool(s.any()) for s in slopes)

    def test_weight_is_checked(self, case: Row) -> None:
        assert case.make().weight == 0.7
        assert case.make(0.0).weight == 0.0
        for bad in (-0.1, float("nan"), float("inf")):
            with pytest.raises(CtcontrolError, match=f"{case.knob}.*finite number >= 0.*{bad}"):
                case.make(bad)
