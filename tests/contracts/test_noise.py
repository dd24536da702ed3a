"""The contract of `NoiseSource`: independent Gaussian increments of the right variance."""

import pytest
import torch

from ctcontrol import NoiseSource
from tests.helpers import assert_close, assert_covers, assert_mean
from tests.tables import NOISES, Row, kinds, over

SHAPE = (4000, 2)


def test_every_implementation_has_a_row() -> None:
    assert_covers(NoiseSource, kinds(NOISES))


@over(NOISES)
class TestNoise:
    def test_the_buffer_is_filled_and_returned(self, case: Row) -> None:
        out = torch.full((4, 2, 3), float("nan"), dtype=torch.float64)
        assert case.make(1.0, out.shape).increment(0.1, 0.4, out) is out
        assert bool(torch.isfinite(out).all())

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_the_buffer_decides_the_dtype(self, case: Row, dtype: torch.dtype) -> None:
        out = case.make(1.0, (3, 2)).increment(0.0, 0.5, torch.empty(3, 2, dtype=dtype))
        assert out.dtype == dtype

    @pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.2, 0.25)])
    def test_variance_is_the_length_of_the_interval(
        self, case: Row, begin: float, end: float
    ) -> None:
        source = case.make(1.0, SHAPE)
        dw = source.increment(begin, end, torch.empty(SHAPE, dtype=torch.float64))
        assert_mean(dw, 0.0)
        moments = dw[:, :, None] * dw[:, None, :]
        assert_mean(moments, case.scale**2 * (end - begin) * torch.eye(2))

    def test_disjoint_increments_are_independent(self, case: Row) -> None:
        source = case.make(1.0, SHAPE)
        buffer = torch.empty(SHAPE, dtype=torch.float64)
        first = source.increment(0.1, 0.3, buffer).clone()
        second = source.increment(0.3, 0.9, buffer).clone()
        assert_mean(first * second, 0.0)
        assert_mean(first**2 * second**2, case.scale**4 * 0.2 * 0.6)

    def test_a_new_source_of_the_same_seed_repeats_it(self, case: Row) -> None:
        draws = [
            case.make(1.0, (5, 2)).increment(0.2, 0.6, torch.empty(5, 2)).clone() for _ in range(2)
        ]
        assert_close(draws[0], draws[1], 0.0)
