"""Where a process is observed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, TimeGrid
from tests.strategies import grids, positive


@given(positive, st.integers(1, 200))
def test_uniform_runs_from_zero_to_exactly_the_horizon(horizon: float, steps: int) -> None:
    grid = TimeGrid.uniform(horizon, steps)
    assert grid.steps == steps
    assert float(grid.times[0]) == 0.0
    assert grid.horizon == horizon
    torch.testing.assert_close(grid.lengths, torch.full((steps,), horizon / steps).double())


@given(grids(), st.integers(1, 7))
def test_refining_keeps_every_node_exactly(grid: TimeGrid, k: int) -> None:
    fine = grid.refine(k)
    assert fine.steps == k * grid.steps
    assert torch.equal(fine.times[::k], grid.times)
    torch.testing.assert_close(
        fine.lengths.reshape(grid.steps, k), (grid.lengths / k)[:, None].expand(-1, k)
    )


@given(st.integers(1, 40), st.integers(1, 9))
def test_uniform_grids_of_a_unit_horizon_share_their_nodes_exactly(n: int, k: int) -> None:
    assert torch.equal(TimeGrid.uniform(1.0, n * k).times[::k], TimeGrid.uniform(1.0, n).times)


@given(grids())
def test_intervals_are_the_gaps_between_the_nodes(grid: TimeGrid) -> None:
    intervals = list(grid.intervals())
    assert len(intervals) == grid.steps
    assert [a for a, _ in intervals] == grid.times[:-1].tolist()
    assert [b for _, b in intervals] == grid.times[1:].tolist()
    assert math.isclose(float(grid.lengths.sum()), grid.horizon)


def test_times_are_double_precision_whatever_was_given() -> None:
    assert TimeGrid(torch.tensor([0.0, 0.5])).times.dtype == torch.float64
    assert TimeGrid.from_times((0, 1, 3)).times.tolist() == [0.0, 1.0, 3.0]


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ([0.0], r"at least two times in one row, got shape \(1,\)"),
        ([[0.0, 1.0]], r"at least two times in one row, got shape \(1, 2\)"),
        ([0.0, 0.5, 0.5], r"strictly increase, got \[0.0, 0.5, 0.5\]; sort them and drop repeats"),
        ([0.0, 1.0, 0.5], "strictly increase"),
        ([0.0, float("nan")], "finite"),
        ([0.0, float("inf")], "finite"),
        ([-0.5, 1.0], "control time starts at 0, got a first time of -0.5"),
    ],
)
def test_bad_times_are_named(times: list[float], says: str) -> None:
    with pytest.raises(CtcontrolError, match=says):
        TimeGrid(torch.tensor(times))


@pytest.mark.parametrize(
    ("horizon", "steps", "says"),
    [
        (0.0, 5, "horizon must be a finite number > 0, got 0.0"),
        (float("inf"), 5, "horizon must be a finite number > 0, got inf"),
        (1.0, 0, "steps must be a whole number >= 1, got 0"),
        (1.0, 2.5, "steps must be a whole number >= 1, got 2.5"),
        (1.0, True, "steps must be a whole number >= 1, got True"),
    ],
)
def test_bad_uniform_grids_are_named(horizon: float, steps: int, says: str) -> None:
    with pytest.raises(CtcontrolError, match=says):
        TimeGrid.uniform(horizon, steps)


def test_bad_refinements_are_named() -> None:
    with pytest.raises(CtcontrolError, match="k must be a whole number >= 1, got 0"):
        TimeGrid.uniform(1.0, 2).refine(0)
