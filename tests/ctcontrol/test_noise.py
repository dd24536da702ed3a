"""Brownian paths that are the same on every grid."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from ctcontrol import BrownianPath, CtcontrolError, NoiseStream, TimeGrid, WhiteNoise
from ctcontrol.noise import Tile
from tests.helpers import assert_close

SHAPE = (5, 2)


def _increments(path: BrownianPath, grid: TimeGrid) -> torch.Tensor:
    out = torch.empty(SHAPE, dtype=torch.float64)
    return torch.stack([path.increment(a, b, out).clone() for a, b in grid.intervals()])


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 100))
def test_a_coarse_increment_is_the_sum_of_the_fine_ones(n: int, k: int, seed: int) -> None:
    coarse = TimeGrid.uniform(1.3, n)
    path = BrownianPath(1.3, SHAPE, seed=seed)
    fine = _increments(path, coarse.refine(k)).reshape(n, k, *SHAPE).sum(1)
    assert_close(fine, _increments(path, coarse), 1e-12)


@given(st.integers(1, 12), st.integers(2, 6), st.integers(0, 100))
def test_the_seed_alone_decides_the_path(n: int, k: int, seed: int) -> None:
    """Two objects, asked on different grids: still the same W."""
    coarse = TimeGrid.uniform(1.3, n)
    one, two = (BrownianPath(1.3, SHAPE, seed=seed) for _ in range(2))
    fine = _increments(one, coarse.refine(k)).reshape(n, k, *SHAPE).sum(1)
    assert_close(fine, _increments(two, coarse), 1e-12)


def test_other_seeds_give_other_paths() -> None:
    grid = TimeGrid.uniform(1.0, 4)
    one, two = (_increments(BrownianPath(1.0, SHAPE, seed=s), grid) for s in (1, 2))
    assert float((one - two).abs().min()) > 0


def test_increments_are_gaussian() -> None:
    """Also on a grid that is not dyadic, by Kolmogorov and Smirnov's test."""
    path = BrownianPath(1.0, (2000, 1), seed=3)
    out = torch.empty(2000, 1, dtype=torch.float64)
    for begin, end in TimeGrid.uniform(1.0, 3).intervals():
        z = path.increment(begin, end, out).flatten() / math.sqrt(end - begin)
        assert kstest(z.numpy(), "norm").pvalue > 1e-4


def test_images_are_shaped_like_images() -> None:
    path = BrownianPath(1.0, (2, 3, 4, 4), seed=4, dtype=torch.float32)
    assert path.increment(0.0, 0.5, torch.empty(2, 3, 4, 4)).shape == (2, 3, 4, 4)


def _stream(seed: int, index: int = 0) -> NoiseStream:
    return WhiteNoise(seed).stream(Tile(TimeGrid.uniform(1.0, 2), index, 0, 8, 8))


def test_white_noise_goes_on_and_is_replayed_by_its_seed() -> None:
    one, two, out = _stream(5), _stream(5), torch.empty(8, dtype=torch.float64)
    first = one.increment(0.0, 1.0, out).clone()
    second = one.increment(0.0, 1.0, out).clone()
    assert not torch.equal(first, second)
    assert torch.equal(first, two.increment(0.0, 1.0, out))
    assert torch.equal(second, two.increment(0.0, 1.0, out))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_and_seeds_have_noise_of_their_own(dtype: torch.dtype) -> None:
    streams = [_stream(5), _stream(5, 1), _stream(6)]
    draws = [s.increment(0.0, 1.0, torch.empty(8, dtype=dtype)) for s in streams]
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not bool((draws[i] == draws[j]).any())


def test_a_source_for_all_paths_cannot_be_cut_into_tiles() -> None:
    path = BrownianPath(1.0, (4, 1), seed=1)
    with pytest.raises(CtcontrolError, match="one source for all paths"):
        path.stream(Tile(TimeGrid.uniform(1.0, 2), 0, 0, 2, 4))
