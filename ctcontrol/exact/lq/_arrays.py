"""Door checks for the matrices of a linear-quadratic problem, in float64 numpy."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ctcontrol._checks import CtcontrolError

Array: TypeAlias = NDArray[np.floating[Any]]
"""A float64 array; every exact formula is evaluated in this precision."""

Numbers: TypeAlias = ArrayLike | float | int
"""What is read as an array: numbers, nested sequences of numbers, arrays, tensors."""

_RELATIVE_SYMMETRY = 1e-10
_RELATIVE_EIGENVALUE = 1e-10


def as_array(name: str, value: Numbers, shape: tuple[int, ...] | None = None) -> Array:
    """Read `value` as a finite, read-only float64 array, of the given `shape` if one is given.

    Raises:
        CtcontrolError: it is not numeric, not finite or of another shape.
    """
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise CtcontrolError(
                f"{name} is a tensor that requires gradients, which exact answers do not carry; "
                "give its detach()"
            )
        value = value.cpu().numpy()
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CtcontrolError(
            f"{name} must be an array of real numbers, got {type(value).__name__}: {error}"
        ) from None
    if shape is not None and array.shape != shape:
        raise CtcontrolError(f"{name} must have shape {shape}, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise CtcontrolError(f"{name} must be finite, but it contains NaN or infinity")
    array.setflags(write=False)
    return array


def as_vector(name: str, value: Numbers) -> Array:
    """Read a vector with one entry at least."""
    array = as_array(name, value)
    if array.ndim != 1 or len(array) == 0:
        raise CtcontrolError(f"{name} must be a vector (states,), got shape {array.shape}")
    return array


def as_matrix(name: str, value: Numbers, size: int) -> Array:
    """Read a matrix with `size` rows; a number is that multiple of the identity."""
    array = as_array(name, value)
    array = as_array(name, array * np.eye(size)) if array.ndim == 0 else array
    if array.ndim != 2 or len(array) != size:
        raise CtcontrolError(
            f"{name} must be a number or a matrix with {size} rows, got shape {array.shape}"
        )
    return array


def as_symmetric(name: str, value: Numbers, size: int) -> Array:
    """Read a symmetric (size, size) matrix; rounding asymmetry is averaged away."""
    array = as_array(name, value, (size, size))
    gap = float(np.abs(array - array.T).max(initial=0.0))
    if gap > _RELATIVE_SYMMETRY * max(1.0, float(np.abs(array).max(initial=0.0))):
        raise CtcontrolError(
            f"{name} must be symmetric, but |{name} - {name}ᵀ| reaches {gap:.3g}; "
            f"pass ({name} + {name}ᵀ)/2, which defines the same quadratic form"
        )
    return as_array(name, (array + array.T) / 2)


def as_semidefinite(name: str, value: Numbers, size: int) -> Array:
    """Read a symmetric positive semidefinite (size, size) matrix."""
    array = as_symmetric(name, value, size)
    eigenvalues = np.linalg.eigvalsh(array)
    if eigenvalues[0] < -_RELATIVE_EIGENVALUE * max(1.0, float(np.abs(eigenvalues).max())):
        raise CtcontrolError(
            f"{name} must be positive semidefinite, but its smallest eigenvalue is "
            f"{eigenvalues[0]:.3g}; costs enter with a plus sign and are subtracted by the problem"
        )
    return array


def as_definite(name: str, value: Numbers, size: int) -> Array:
    """Read a symmetric positive definite (size, size) matrix."""
    array = as_symmetric(name, value, size)
    eigenvalues = np.linalg.eigvalsh(array)
    if eigenvalues[0] <= 1e-14 * max(1.0, float(np.abs(eigenvalues).max())):
        raise CtcontrolError(
            f"{name} must be positive definite, but its smallest eigenvalue is "
            f"{eigenvalues[0]:.3g}; add a small multiple of the identity"
        )
    return array
