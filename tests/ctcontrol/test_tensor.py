"""Event axes: the one place that knows where they are."""

import torch

from ctcontrol import fill, inner, like
from tests.helpers import assert_close, normal


def test_like_multiplies_rows() -> None:
    v, x = normal(3, seed=1), normal(3, 2, 4, seed=2)
    assert_close(like(v, x) * x, torch.einsum("b,bij->bij", v, x))
    assert like(v, normal(3)).shape == (3,)
    assert like(x, x).shape == x.shape


def test_inner_sums_all_event_axes() -> None:
    u, v = normal(3, 2, 4, seed=3), normal(3, 2, 4, seed=4)
    assert_close(inner(u, v), torch.einsum("bij,bij->b", u, v))
    assert_close(inner(u[:, 0, 0], v[:, 0, 0]), u[:, 0, 0] * v[:, 0, 0])


def test_fill_takes_dtype_and_length_from_the_rows() -> None:
    for dtype in (torch.float32, torch.float64):
        t = fill(0.1, torch.zeros(3, 2, dtype=dtype))
        assert t.shape == (3,)
        assert t.dtype == dtype
        assert_close(t, 0.1, 1e-7)
