"""Volatilities beyond vectors and double precision."""

import pytest
import torch

from ctcontrol import CtcontrolError, DenseVolatility, DiagonalVolatility, ScalarVolatility
from tests.helpers import assert_close, normal, seeded


def test_images_take_scalar_and_diagonal_noise() -> None:
    x = normal(4, 3, 2, 2, seed=1)
    scalar, diagonal = ScalarVolatility(torch.full((4,), 2.0).double()), DiagonalVolatility(x)
    assert_close(scalar.mul(x), 2 * x)
    assert_close(diagonal.mul(x), x * x)
    assert_close(scalar.sq_norm_inv(x), (x / 2).square().sum((1, 2, 3)))
    assert_close(diagonal.sq_norm_inv(x), 12.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_deficiency_is_found_in_every_precision(dtype: torch.dtype) -> None:
    """A rank-one covariance may survive a Cholesky factorisation with a pivot of rounding."""
    generator = seeded(2)
    for _ in range(100):
        u = torch.randn(3, 1, generator=generator, dtype=dtype)
        w = torch.randn(1, 3, generator=generator, dtype=dtype)
        with pytest.raises(CtcontrolError, match="zero or singular"):
            DenseVolatility(u @ w).whiten(torch.ones(2, 3, dtype=dtype))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_small_noise_is_not_singular_noise(scale: float) -> None:
    sigma, v = normal(3, 3, seed=3), normal(5, 3, seed=4)
    expected = torch.linalg.solve(sigma, v.mT).mT / scale
    torch.testing.assert_close(DenseVolatility(scale * sigma).whiten(v), expected)


def test_fewer_noises_than_states_have_no_inverse() -> None:
    with pytest.raises(CtcontrolError, match=r"for DDIM: eta > 0"):
        DenseVolatility(normal(3, 2)).whiten(normal(1, 3))
