"""The contract of `Link`: the terminal condition holds by construction."""

import torch

from ctcontrol import Link
from tests.helpers import assert_close, assert_covers
from tests.tables import LINKS, Row, kinds, over

HORIZON = 1.7


def test_every_implementation_has_a_row() -> None:
    assert_covers(Link, kinds(LINKS))


@over(LINKS)
class TestLink:
    def test_only_the_guess_is_left_at_the_horizon(self, case: Row) -> None:
        for dtype in (torch.float32, torch.float64):
            c_in, c_out = case.make(HORIZON).coefficients(torch.tensor([HORIZON], dtype=dtype))
            assert c_in.dtype == c_out.dtype == dtype
            assert_close(c_in, 1.0, 1e-6)
            assert_close(c_out, 0.0, 1e-6)

    def test_the_residual_counts_before(self, case: Row) -> None:
        t = torch.linspace(0, 0.95 * HORIZON, 20, dtype=torch.float64)
        c_in, c_out = case.make(HORIZON).coefficients(t)
        assert c_in.shape == c_out.shape == t.shape
        assert bool((c_out > 0).all())
        assert bool((c_out <= 1).all())
        assert bool((c_in <= 1).all())
        assert bool((c_in > -1e-12).all())

    def test_the_residual_counts_less_and_less(self, case: Row) -> None:
        """In control time: written in the other clock, the boundary would sit at t = 0."""
        t = torch.linspace(0, HORIZON, 50, dtype=torch.float64)
        c_in, c_out = case.make(HORIZON).coefficients(t)
        steps = c_out.diff()
        assert bool(((steps[:-1] == 0) if "steady" in case.facts else (steps[:-1] < 0)).all())
        assert float(steps[-1]) < 0
        assert bool((c_in.diff() >= -1e-15).all())
