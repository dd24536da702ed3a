"""The only code that knows where the event axes of a tensor are."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad


def like(v: Tensor, x: Tensor) -> Tensor:
    """Append axes to the per-row numbers `v` (batch,) so that they multiply rows of `x`."""
    return v.reshape(v.shape + (1,) * (x.ndim - v.ndim))


def shared(v: Tensor) -> bool:
    """Whether per-row numbers are one number expanded, (batch,) of stride 0; reads no value."""
    return v.ndim == 1 and len(v) > 0 and v.stride(0) == 0


def of_time(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    """function(t), row by row; computed once where all rows share their time, as in rollouts."""
    return function(t[:1]).expand(len(t)) if shared(t) else function(t)


def span(t0: Tensor, t1: Tensor, x: Tensor) -> Tensor:
    """t1 − t0, ready to multiply rows of `x`: a number without axes where all rows share it."""
    if shared(t0) and shared(t1):
        return t1[0] - t0[0]
    return like(t1 - t0, x)


def varies(v: Tensor) -> bool:
    """Whether a derivative is being taken along `v`: what is zero now must not be left out then."""
    differentiated = torch.is_grad_enabled() and v.requires_grad
    return differentiated or forward_ad.unpack_dual(v).tangent is not None


def linear(matrix: Tensor, x: Tensor) -> Tensor:
    """M x for every row of `x`: (m, d) × (batch, d) -> (batch, m), laid out in columns.

    A product of a small matrix with few long rows is several times faster for BLAS than one of
    many short rows with a small matrix, and elementwise operations keep the layout.
    """
    return (matrix @ x.mT).mT


def columns(x: Tensor) -> Tensor:
    """Vectors (batch, d) laid out in columns, other states as they are."""
    return x.mT.contiguous().mT if x.ndim == 2 else x


def inner(u: Tensor, v: Tensor) -> Tensor:
    """⟨u, v⟩ over all event axes: (batch, *event) × (batch, *event) -> (batch,)."""
    if u.ndim == 2 and u.shape[1] == 1:
        return (u * v)[:, 0]  # nothing to sum
    return (u * v).flatten(1).sum(1) if u.ndim > 1 else u * v


def sum_event(x: Tensor) -> Tensor:
    """Sum over all event axes: (batch, *event) -> (batch,)."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def rows_of(context: object, rows: Tensor) -> object:
    """Select rows of an opaque context; None stays None."""
    return None if context is None else context[rows]  # type: ignore[index]  # Context is duck-typed


def fill(value: Tensor | float, x: Tensor) -> Tensor:
    """A (batch,) vector of `value` with the dtype and device of `x`."""
    return torch.as_tensor(value, dtype=x.dtype, device=x.device).expand(len(x))
