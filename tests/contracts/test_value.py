"""The contract of `Value`: a function, its derivatives, and the reward at the horizon."""

import torch
from torch import Tensor

from ctcontrol import RatedValue, Value, inner
from tests.helpers import assert_close, assert_covers, normal, numerical_gradient
from tests.tables import VALUES, Row, kinds, over
from tests.tables.functions import Informed

BATCH = 7


def test_every_implementation_has_a_row() -> None:
    assert_covers(Value, kinds(VALUES))


def _rows(case: Row) -> tuple[Tensor, Tensor]:
    t = case.facts.get("times", torch.linspace(0.05, 0.9, BATCH, dtype=torch.float64))
    return t, case.facts.get("domain", torch.clone)(normal(BATCH, case.states, seed=1))


@over(VALUES)
class TestValue:
    def test_rows_do_not_see_each_other(self, case: Row) -> None:
        value, (t, x) = case.make(), _rows(case)
        order = torch.tensor([6, 2, 2, 0])
        whole = value.at(t, x, None)
        assert whole.shape == (BATCH,)
        assert_close(value.at(t[order], x[order], None), whole[order], 1e-12)

    def test_jet_is_the_derivative(self, case: Row) -> None:
        value, (t, x) = case.make(), _rows(case)
        jet = value.jet(t, x, None, hessian=True)
        with torch.no_grad():
            assert_close(jet.value, value.at(t, x, None), 1e-12)
            slope = numerical_gradient(lambda y: value.at(t, y, None), x)
        assert_close(jet.gradient, slope, 1e-7)
        if "times" in case.facts:
            assert bool(jet.time.isnan().all())
        else:
            with torch.no_grad():
                rate = numerical_gradient(lambda s: value.at(s, x, None), t)
            assert_close(jet.time, rate, 1e-6)
        for i in range(case.states):
            second = numerical_gradient(lambda y, i=i: value.jet(t, y, None).gradient[:, i], x)
            assert jet.hessian is not None
            assert_close(jet.hessian[:, i], second, 1e-6)

    def test_the_parts_of_the_jet_agree(self, case: Row) -> None:
        value, (t, x) = case.make(), _rows(case)
        direction = normal(BATCH, case.states, seed=2)
        jet = value.jet(t, x, None)
        assert jet.hessian is None
        assert_close(value.gradient(t, x, None), jet.gradient, 1e-12)
        assert_close(value.along(t, x, direction, None), inner(direction, jet.gradient), 1e-12)

    def test_derivatives_carry_no_graph(self, case: Row) -> None:
        value, (t, x) = case.make(), _rows(case)
        with torch.no_grad():  # they must also work where gradients are off
            jet = value.jet(t, x, None, hessian=True)
        assert jet.hessian is not None
        for part in (jet.value, jet.time, jet.gradient, jet.hessian):
            assert not part.requires_grad
        assert all(p.grad is None for p in value.parameters())

    def test_notes_change_nothing_but_the_cost(self, case: Row) -> None:
        """A value that reads no notes is itself; one that does sees what it would compute."""
        value, (t, x) = case.make(), _rows(case)
        bound = value.given(Informed.noted(t, x))
        assert_close(bound.at(t, x, None), value.at(t, x, None), 1e-12)
        mine, others = list(value.parameters()), list(bound.parameters())
        assert len(mine) == len(others)
        assert all(p is q for p, q in zip(mine, others, strict=True))
        reads = "Informed" in case.name
        assert (bound is not value) == (reads or isinstance(value, RatedValue))
        if reads:
            other = value.given(Informed.noted(t, x) + 1.0)
            assert bool(((other.at(t, x, None) - value.at(t, x, None)).abs() > 1e-6).all())

    def test_horizon_pays_the_reward(self, case: Row) -> None:
        value, (t, x) = case.make(), _rows(case)
        assert_close(value.at(torch.ones_like(t), x, None), case.terminal(x), 1e-9)

    def test_parameters_are_trainable_through_at(self, case: Row) -> None:
        value, (t, x) = case.make(), _rows(case)
        parameters = list(value.parameters())
        if parameters:
            value.at(t, x, None).sum().backward()
        assert all(p.grad is not None and bool(p.grad.any()) for p in parameters)
