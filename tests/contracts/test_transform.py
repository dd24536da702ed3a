"""The contract of `AdvantageTransform`: it rescales, and keeps what a gradient needs."""

from dataclasses import replace

import torch
from torch import Tensor

from ctcontrol import AdvantageTransform, GaussianPolicy, Trajectory, simulate
from tests.helpers import assert_close, assert_covers, normal, seeded
from tests.problems import regulator
from tests.tables import GRID, TRANSFORMS, Row, kinds, over

BATCH = 12


def test_every_implementation_has_a_row() -> None:
    assert_covers(AdvantageTransform, kinds(TRANSFORMS))


def _path() -> Trajectory:
    linear = regulator()
    policy = GaussianPolicy(linear.mean(linear.zero, linear.k0), 0.3)
    problem = replace(linear.problem, horizon=1.0)
    path = simulate(problem, policy, GRID, BATCH, generator=seeded())
    return replace(path, context=torch.arange(BATCH) % 3)


def _rates() -> Tensor:
    return 3 * normal(GRID.steps, BATCH, seed=1) + 1


@over(TRANSFORMS)
class TestTransform:
    def test_shape_and_dtype_are_kept_and_the_input_is_untouched(self, case: Row) -> None:
        rates = _rates()
        before = rates.clone()
        out = case.make()(rates, _path())
        assert out.shape == rates.shape
        assert out.dtype == rates.dtype
        assert torch.equal(rates, before)

    def test_the_unit_of_reward_does_not_matter(self, case: Row) -> None:
        rates, path = _rates(), _path()
        assert_close(case.make()(1000 * rates, path), case.make()(rates, path))

    def test_order_is_kept_within_a_step_and_context(self, case: Row) -> None:
        rates, path = _rates(), _path()
        out = case.make()(rates, path)
        for label in range(3):
            mine = path.context == label
            for k in range(GRID.steps):
                assert torch.equal(rates[k, mine].argsort(), out[k, mine].argsort())

    def test_equal_rates_do_not_blow_up(self, case: Row) -> None:
        out = case.make()(torch.zeros(GRID.steps, BATCH), _path())
        assert bool(torch.isfinite(out).all())
