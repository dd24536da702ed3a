"""The contract of `ControlledSDE`: rows are independent, and affine actions mean what they say."""

import torch

from ctcontrol import (
    ActionAffineSDE,
    AdditiveNoiseSDE,
    ConstantLinearSDE,
    ControlledSDE,
    ElementwiseActionSDE,
    UncontrolledVolatilitySDE,
)
from tests.helpers import assert_close, assert_covers, normal
from tests.tables import SDES, Row, kinds, over

BATCH = 6


def test_every_implementation_has_a_row() -> None:
    assert_covers(ControlledSDE, kinds(SDES))


def _rows(case: Row) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    t = torch.linspace(0.05, 0.9, BATCH, dtype=torch.float64)
    return t, normal(BATCH, *case.state, seed=1), normal(BATCH, *case.action, seed=2)


@over(SDES)
class TestSDE:
    def test_rows_do_not_see_each_other(self, case: Row) -> None:
        sde, (t, x, a) = case.make(), _rows(case)
        order = torch.tensor([3, 0, 5, 1])
        part = sde.drift(t[order], x[order], a[order], None)
        assert_close(part, sde.drift(t, x, a, None)[order])
        assert part.dtype == x.dtype
        noise = torch.ones_like(sde.volatility(t, x, a).noise_like(x))
        moved = sde.volatility(t, x, a).mul(noise)
        part = sde.volatility(t[order], x[order], a[order])
        assert_close(part.mul(noise[order]), moved[order])

    def test_the_kind_says_whether_actions_change_the_volatility(self, case: Row) -> None:
        sde, (t, x, a) = case.make(), _rows(case)
        noise = torch.ones_like(sde.volatility(t, x, a).noise_like(x))
        moved = sde.volatility(t, x, a).mul(noise)
        other = sde.volatility(t, x, a + 1).mul(noise)
        if isinstance(sde, UncontrolledVolatilitySDE):
            assert_close(other, moved, 0.0)
            assert_close(sde.volatility(t, x).mul(noise), moved, 0.0)
        else:
            assert bool((other != moved).any(1).all())

    def test_additive_noise_does_not_see_the_state(self, case: Row) -> None:
        sde, (t, x, a) = case.make(), _rows(case)
        if not isinstance(sde, AdditiveNoiseSDE):
            return
        noise = torch.ones_like(sde.volatility(t, x, a).noise_like(x))
        assert_close(sde.volatility(t, 3 * x + 1).mul(noise), sde.volatility(t, x).mul(noise), 0.0)

    def test_linear_coefficients_are_those_of_the_dynamics(self, case: Row) -> None:
        sde, (t, x, a) = case.make(), _rows(case)
        if not isinstance(sde, ConstantLinearSDE):
            return
        c = sde.coefficients()
        assert_close(sde.drift(t, x, a, None), x @ c.A.mT + a @ c.B.mT + c.f)
        noise = torch.ones_like(sde.volatility(t, x).noise_like(x))
        assert_close(sde.volatility(t, x).mul(noise), noise @ c.sigma.mT)

    def test_affine_means_affine(self, case: Row) -> None:
        sde, (t, x, a) = case.make(), _rows(case)
        if not isinstance(sde, ActionAffineSDE):
            return
        b, mix = normal(BATCH, *case.action, seed=3), 0.3
        between = sde.drift(t, x, mix * a + (1 - mix) * b, None)
        assert_close(between, mix * sde.drift(t, x, a, None) + (1 - mix) * sde.drift(t, x, b, None))
        assert_close(sde.drift(t, x, a, None), sde.free_drift(t, x, None) + sde.action_drift(t, a))

    def test_elementwise_means_one_number_a_row(self, case: Row) -> None:
        sde, (t, x, a) = case.make(), _rows(case)
        if not isinstance(sde, ElementwiseActionSDE):
            return
        gap = sde.drift(t, x, a, None) - sde.drift(t, x, torch.zeros_like(a), None)
        gain = sde.action_gain(t)
        assert gain.shape == t.shape
        assert_close(gap.flatten(1), gain[:, None] * a.flatten(1))
