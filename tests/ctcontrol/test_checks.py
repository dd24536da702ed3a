"""Errors for people: the value and the remedy are in the sentence."""

import pytest
import torch

from ctcontrol import (
    CtcontrolError,
    NumericalError,
    ShapeError,
    check_count,
    check_nonnegative,
    check_positive,
    check_rows,
)
from ctcontrol._checks import check_finite


def test_good_values_pass_through() -> None:
    assert check_positive("x", 0.5) == 0.5
    assert check_nonnegative("x", 0.0) == 0.0
    assert check_count("x", 3) == 3
    rows = torch.zeros(4)
    assert check_rows("x", rows, 4) is rows


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf")])
def test_positive(bad: float) -> None:
    with pytest.raises(CtcontrolError, match=f"speed must be a finite number > 0, got {bad}"):
        check_positive("speed", bad)


@pytest.mark.parametrize("bad", [-1e-9, float("nan"), float("inf")])
def test_nonnegative(bad: float) -> None:
    with pytest.raises(CtcontrolError, match=f"speed must be a finite number >= 0, got {bad}"):
        check_nonnegative("speed", bad)


@pytest.mark.parametrize("bad", [0, -2, 1.0, "3", True, None])
def test_count(bad: object) -> None:
    with pytest.raises(CtcontrolError, match=f"steps must be a whole number >= 1, got {bad!r}"):
        check_count("steps", bad)


@pytest.mark.parametrize("shape", [(), (3,), (4, 1)])
def test_rows(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"h must return one number a row, shape \(4,\), got \("):
        check_rows("h", torch.zeros(shape), 4)


def test_finite_counts_what_is_bad_and_carries_the_batch() -> None:
    batch = {"good": torch.zeros(3), "bad": torch.tensor([1.0, float("nan"), float("inf")])}
    with pytest.raises(NumericalError, match=r"the test: bad has 2 of 3 entries.*; go home") as e:
        check_finite("the test", batch, "go home")
    assert e.value.batch is batch


def test_families() -> None:
    """Callers catch bad input as ValueError and broken numbers as RuntimeError."""
    assert issubclass(ShapeError, CtcontrolError)
    assert issubclass(CtcontrolError, ValueError)
    assert issubclass(NumericalError, RuntimeError)
    assert NumericalError("x").batch == {}
