"""The contract of `Volatility`: it acts as the matrix it stands for."""

import pytest
import torch

from ctcontrol import CtcontrolError, Volatility
from tests.helpers import assert_close, assert_covers, normal
from tests.tables import VOLATILITIES, Row, kinds, over

BATCH = 5


def test_every_implementation_has_a_row() -> None:
    assert_covers(Volatility, kinds(VOLATILITIES))


@over(VOLATILITIES)
class TestVolatility:
    def test_mul_is_the_matrix_product(self, case: Row) -> None:
        v = case.make(BATCH)
        sigma = case.matrix(v).expand(BATCH, -1, -1)
        w = normal(BATCH, sigma.shape[-1])
        assert_close(v.mul(w), torch.einsum("bik,bk->bi", sigma, w))

    def test_whiten_is_the_least_norm_inverse(self, case: Row) -> None:
        v, x = case.make(BATCH), normal(BATCH, 3, seed=1)
        sigma = case.matrix(v).expand(BATCH, -1, -1)
        assert_close(v.whiten(x), torch.einsum("bki,bi->bk", torch.linalg.pinv(sigma), x))
        assert_close(v.mul(v.whiten(x)), x)

    def test_sq_norm_inv_is_the_quadratic_form_of_the_precision(self, case: Row) -> None:
        v, x = case.make(BATCH), normal(BATCH, 3, seed=2)
        covariance = case.matrix(v) @ case.matrix(v).mT
        precision = torch.linalg.inv(covariance).expand(BATCH, -1, -1)
        assert_close(v.sq_norm_inv(x), torch.einsum("bi,bij,bj->b", x, precision, x))

    def test_trace_weighs_the_hessian_with_the_covariance(self, case: Row) -> None:
        v, root = case.make(BATCH), normal(BATCH, 3, 3, seed=3)
        hessian = root + root.mT
        covariance = case.matrix(v) @ case.matrix(v).mT
        expected = torch.diagonal(covariance @ hessian, dim1=-2, dim2=-1).sum(-1)
        assert_close(v.trace(hessian), expected)

    def test_noise_fits(self, case: Row) -> None:
        v, x = case.make(BATCH), normal(BATCH, 3)
        noise = v.noise_like(x)
        assert noise.dtype == x.dtype
        assert noise.shape == (BATCH, case.matrix(v).shape[-1])
        assert v.mul(noise.zero_()).shape == x.shape

    def test_singular_has_no_inverse(self, case: Row) -> None:
        v = case.singular()
        rows = case.matrix(v).shape[0] if case.matrix(v).ndim == 3 else 1
        x = torch.ones(max(rows, 1), 3, dtype=case.matrix(v).dtype)
        with pytest.raises(CtcontrolError, match=r"zero or singular.*use a positive volatility"):
            v.whiten(x)
        with pytest.raises(CtcontrolError):
            v.sq_norm_inv(x)
