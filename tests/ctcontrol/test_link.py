"""How large a residual each link asks for near the horizon."""

import math

import pytest
import torch

from ctcontrol import CosOneMinusCos, CosSin, CtcontrolError, Linear, Link, Variance
from tests.helpers import assert_close, slope

TO_GO = torch.tensor([0.1, 0.05, 0.025, 0.0125]).double()


@pytest.mark.parametrize(
    ("link", "order"),
    [(CosSin(1.0), 0.0), (Linear(1.0), 0.0), (CosOneMinusCos(1.0), -1.0)],
)
def test_the_residual_target_near_the_horizon(link: Link, order: float) -> None:
    """V = h + (T − t) there, so (V − c_in h)/c_out is O(1), or grows like 1/(T − t)."""
    c_in, c_out = link.coefficients(1 - TO_GO)
    target = ((1 + TO_GO) - c_in) / c_out
    assert abs(slope(TO_GO.tolist(), target.tolist()) - order) < 0.12


def test_formulas() -> None:
    t = torch.tensor([0.0, 0.5, 1.0, 2.0]).double()
    u = torch.tensor([1.0, 0.75, 0.5, 0.0]).double()
    cos, sin = torch.cos(math.pi * u / 2), torch.sin(math.pi * u / 2)
    for link, expected in (
        (CosSin(2.0), (cos, sin)),
        (Linear(2.0), (1 - u, u)),
        (CosOneMinusCos(2.0), (cos, 1 - cos)),
        (Variance(lambda t: u**2), (torch.ones(4).double(), u**2)),
    ):
        for coefficient, truth in zip(link.coefficients(t), expected, strict=True):
            assert_close(coefficient, truth)


def test_rounding_beyond_the_horizon_changes_nothing() -> None:
    for link in (CosSin(1.0), Linear(1.0), CosOneMinusCos(1.0)):
        c_in, c_out = link.coefficients(torch.tensor([1.0 + 1e-7]).double())
        assert (float(c_in), float(c_out)) == (1.0, 0.0)


@pytest.mark.parametrize("kind", [CosSin, Linear, CosOneMinusCos])
def test_bad_horizons_are_named(kind: type[CosSin]) -> None:
    with pytest.raises(CtcontrolError, match="horizon must be a finite number > 0, got -1"):
        kind(-1.0)
