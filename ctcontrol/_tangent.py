"""Directional derivatives by forward mode."""

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel


@cache
def _prepared() -> None:
    """The first dual number makes torch load what it computes with, by means it has deprecated."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


@torch.no_grad()
def tangent(function: Callable[[Tensor], Tensor], x: Tensor, direction: Tensor) -> Tensor:
    """d/dε function(x + ε direction) at ε = 0, shaped like function(x).

    One pass, which keeps nothing of what lies between x and the result. Attention is computed as it
    is written: its fused forms know no such derivative.

    Raises:
        NotImplementedError: an operation knows no such derivative.
    """
    _prepared()
    with sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        dual = forward_ad.make_dual(x.detach(), direction.detach())
        primal, found = forward_ad.unpack_dual(function(dual))
        return torch.zeros_like(primal) if found is None else found.clone()
