"""Standardisation by hand."""

from dataclasses import replace

import pytest
import torch

from ctcontrol import CtcontrolError, Standardize, StandardizePerContext, TimeGrid
from tests.helpers import assert_close, normal
from tests.problems import trajectory

GRID = TimeGrid.from_times([0.0, 0.2, 1.0])


def test_one_number_scales_everything() -> None:
    """All steps together, and the mean stays: the direction of the gradient is kept."""
    path = trajectory(GRID, batch=50)
    rates = torch.stack([normal(50, seed=1), 10 * normal(50, seed=2) + 3])
    out = Standardize()(rates, path)
    assert_close(out * rates.std(), rates)
    assert abs(float(out.std()) - 1) < 1e-12


def test_per_context_statistics_are_those_of_the_weights() -> None:
    """Rate times length has mean 0 and deviation 1 within each label, on uneven grids too."""
    labels = torch.tensor([3, 3, 3, 8, 8, 8, 8])
    path = replace(trajectory(GRID, batch=7), context=labels)
    out = StandardizePerContext(clip=100.0)(normal(2, 7, seed=3) + labels, path)
    for label in (3, 8):
        weights = (out * path.lengths)[:, labels == label]
        assert_close(weights.mean(), 0.0)
        assert_close(weights.std(), 1.0)


def test_a_lonely_context_falls_back_on_the_batch() -> None:
    labels = torch.tensor([1, 1, 1, 2])
    path = replace(trajectory(GRID, batch=4), context=labels)
    rates = normal(2, 4, seed=4)
    weights = rates * path.lengths
    expected = (weights - weights.mean()) / weights.std() / path.lengths
    out = StandardizePerContext(clip=100.0)(rates, path)
    assert_close(out[:, 3], expected[:, 3])


def test_outliers_are_clipped() -> None:
    path = replace(trajectory(GRID, batch=40), context=torch.zeros(40, dtype=torch.long))
    rates = normal(2, 40, seed=5)
    rates[0, 0] = 1e6
    weights = StandardizePerContext(clip=2.0)(rates, path) * path.lengths
    assert float(weights.max()) == pytest.approx(2.0)


@pytest.mark.parametrize("context", [None, ["a", "b"], torch.zeros(3, 2)])
def test_labels_are_needed(context: object) -> None:
    path = replace(trajectory(GRID, batch=3), context=context)
    with pytest.raises(CtcontrolError, match=r"one integer label a path.*got .*; use Standardize"):
        StandardizePerContext()(normal(2, 3), path)


def test_bad_clips_are_named() -> None:
    with pytest.raises(CtcontrolError, match="clip must be a finite number > 0, got 0"):
        StandardizePerContext(clip=0.0)
