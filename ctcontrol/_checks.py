"""Errors for people: one sentence with the offending value and the remedy."""

import math
from typing import Any

import torch
from torch import Tensor


class CtcontrolError(ValueError):
    """Bad input, found at the door, before any work is lost."""


class ShapeError(CtcontrolError):
    """Tensors whose shapes do not fit together."""


class NumericalError(RuntimeError):
    """A number that is not finite appeared in the middle of a computation.

    `batch` holds what was being worked on (name -> tensor), so that a caller can save it.
    """

    def __init__(self, message: str, batch: dict[str, Tensor] | None = None) -> None:
        super().__init__(message)
        self.batch = batch or {}


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is a finite number > 0, else raise `CtcontrolError`."""
    if not (_is_finite(value) and value > 0):
        raise CtcontrolError(f"{name} must be a finite number > 0, got {_shown(value)}")
    return value


def check_nonnegative(name: str, value: float) -> float:
    """Return `value` if it is a finite number ≥ 0, else raise `CtcontrolError`."""
    if not (_is_finite(value) and value >= 0):
        raise CtcontrolError(f"{name} must be a finite number >= 0, got {_shown(value)}")
    return value


def check_number(name: str, value: float) -> float:
    """Return `value` if it is a finite number, else raise `CtcontrolError`."""
    if not _is_finite(value):
        raise CtcontrolError(f"{name} must be a finite number, got {_shown(value)}")
    return value


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError):  # a word, nothing at all, or more than one number
        return False


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) else str(value)


def check_share(name: str, value: float) -> float:
    """Return `value` if it lies in (0, 1], else raise `CtcontrolError`."""
    if not (_is_finite(value) and 0 < value <= 1):
        raise CtcontrolError(f"{name} must lie in (0, 1], got {_shown(value)}; 1 takes everything")
    return value


def check_count(name: str, value: Any, least: int = 1) -> int:
    """Return `value` if it is an integer ≥ `least`, else raise `CtcontrolError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise CtcontrolError(f"{name} must be a whole number >= {least}, got {value!r}")
    return value


def check_kind(name: str, value: object, kind: type | tuple[type, ...], remedy: str) -> None:
    """Raise `CtcontrolError` with the remedy unless `value` is an instance of `kind`."""
    if not isinstance(value, kind):
        wanted = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise CtcontrolError(f"{name} must be of the kind {wanted}, got {got}; {remedy}")


def check_rows(name: str, value: Tensor, batch: int) -> Tensor:
    """Return `value` if it is one number a row, shape (batch,), else raise `ShapeError`."""
    if value.shape != (batch,):
        raise ShapeError(
            f"{name} must return one number a row, shape ({batch},), got {tuple(value.shape)}"
        )
    return value


def check_fits(name: str, value: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """Return `value` if it is (batch, size) of this dtype.

    Raises:
        ShapeError: it has other axes or another number of coordinates.
        CtcontrolError: it has another dtype.
    """
    if value.ndim != 2 or value.shape[1] != size:
        raise ShapeError(
            f"{name} must have shape (batch, {size}), got {tuple(value.shape)}; make policy and "
            "dynamics for the same numbers of states and actions"
        )
    if value.dtype != dtype:
        raise CtcontrolError(
            f"{name} must be {dtype} like the numbers it meets, got {value.dtype}; give problem "
            "and policy the same dtype"
        )
    return value


def check_finite(what: str, tensors: dict[str, Tensor], remedy: str) -> None:
    """Raise `NumericalError` naming the first of `tensors` that holds NaN or inf."""
    for name, value in tensors.items():
        total = float(value.detach().sum())
        if math.isfinite(total):  # one cheap pass; it may overflow, so count before complaining
            continue
        bad = int((~torch.isfinite(value)).sum())
        if bad:
            raise NumericalError(
                f"{what}: {name} has {bad} of {value.numel()} entries that are NaN or infinite; "
                f"{remedy}",
                tensors,
            )
