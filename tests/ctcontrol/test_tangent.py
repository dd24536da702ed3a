"""Derivatives in one direction by forward mode."""

import warnings
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol._tangent import tangent
from tests.helpers import assert_close, normal


def test_the_derivative_of_a_polynomial() -> None:
    x, direction = normal(5, 3, seed=1), normal(5, 3, seed=2)
    found = tangent(lambda y: y.pow(3).sum(1), x, direction)
    assert_close(found, (3 * x.square() * direction).sum(1), 1e-12)
    assert not found.requires_grad


def test_what_does_not_depend_on_x_has_slope_zero() -> None:
    x = normal(5, 3)
    assert torch.equal(tangent(lambda y: torch.ones(5), x, x), torch.zeros(5))


class Attending(nn.Module):
    """Attention over the coordinates of x."""

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        tokens = torch.stack([x, x.square(), t[:, None] * x], 2)
        mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens.sin())
        return mixed.sum((1, 2))


class Opaque(torch.autograd.Function):
    """The sum of cubes, by a function that knows its backward derivative alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.pow(3).sum(1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 3 * x.square() * grads[0][:, None]


class OpaqueResidual(nn.Module):
    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        out = Opaque.apply(x)
        assert isinstance(out, Tensor)
        return out


def pinned(residual: nn.Module, derivative: Literal["reverse", "forward"]) -> ct.PinnedValue:
    guess = lambda t, x, c, mean: x.sin().sum(1)
    return ct.PinnedValue(guess, residual, ct.Linear(1.0), derivative=derivative)


def rows() -> tuple[Tensor, Tensor, Tensor]:
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    return t, normal(5, 3, seed=3), normal(5, 3, seed=4)


def test_attention_is_differentiated_forward() -> None:
    t, x, direction = rows()
    by_hand = pinned(Attending(), "reverse").along(t, x, direction, None)
    assert_close(pinned(Attending(), "forward").along(t, x, direction, None), by_hand, 1e-10)


def test_what_cannot_is_differentiated_backward_and_said_once() -> None:
    t, x, direction = rows()
    value = pinned(OpaqueResidual(), "forward")
    with pytest.warns(UserWarning, match=r"forward mode \(.*reverse mode is taken from now on"):
        slopes = value.along(t, x, direction, None)
    assert_close(slopes, pinned(OpaqueResidual(), "reverse").along(t, x, direction, None), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(value.given(None).along(t, x, direction, None), slopes)


def test_forward_is_not_backward_in_disguise(monkeypatch: pytest.MonkeyPatch) -> None:
    t, x, direction = rows()

    def refused(*args: object, **words: object) -> None:
        raise AssertionError("reverse mode was asked")

    monkeypatch.setattr(torch.autograd, "grad", refused)
    pinned(Attending(), "forward").along(t, x, direction, None)
    with pytest.raises(AssertionError, match="reverse mode was asked"):
        pinned(Attending(), "reverse").along(t, x, direction, None)
