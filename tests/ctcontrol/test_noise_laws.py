"""Noise that is better than white: its law, on every grid, and what it promises besides."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest
from torch import Tensor
from torch.quasirandom import SobolEngine

from ctcontrol import (
    Antithetic,
    Coarsened,
    CtcontrolError,
    MomentMatched,
    NoiseSource,
    Sobol,
    TimeGrid,
    WhiteNoise,
)
from ctcontrol.noise import Tile, _scramble
from ctcontrol.noise._construct import bridge, principal_components
from ctcontrol.noise._scramble import ScrambledSobol
from tests.helpers import assert_close

GRID = TimeGrid.from_times([0.0, 0.2, 0.25, 0.9, 1.0, 1.7])
gaps = st.lists(st.floats(1e-3, 10.0), min_size=1, max_size=40)


def draw(source: NoiseSource, grid: TimeGrid, paths: int, noises: int = 1) -> Tensor:
    """All increments, (steps, paths, noises)."""
    parts: list[Tensor] = []
    for index, rows in enumerate(source.tiles(paths)):
        stream = source.stream(Tile(grid, index, rows.start, rows.stop, paths))
        out = torch.empty(len(rows), noises, dtype=torch.float64)
        times = pairwise(grid.times.tolist())
        parts.append(torch.stack([stream.increment(a, b, out).clone() for a, b in times]))
    return torch.cat(parts, 1)


@given(gaps)
def test_a_path_from_normals_is_brownian_on_every_grid(lengths: list[float]) -> None:
    """As a linear map A of the normals: A Aᵀ is the diagonal of the lengths."""
    times = (0.0, *np.cumsum(lengths).tolist())
    unit = torch.eye(len(lengths), dtype=torch.float64)
    for construct in (bridge, principal_components):
        rows = list(construct(times, lambda index: unit[index].clone()[None]))
        A = torch.cat(rows)
        assert_close(A @ A.mT, torch.tensor(lengths, dtype=torch.float64).diag(), 1e-11)


def test_the_first_normals_carry_most_of_the_path() -> None:
    """∫E W² = T²/2: PCA's first normal has 8/π² of it, the bridge's first 2/3."""
    n = 256
    unit, times = torch.eye(n, dtype=torch.float64), tuple((np.arange(n + 1) / n).tolist())
    shares = {}
    for construct in (bridge, principal_components):
        rows = list(construct(times, lambda index: unit[index].clone()[None]))
        W = torch.cat(rows).cumsum(0)
        power = W.square().sum(0) / W.square().sum()
        shares[construct] = power
        assert bool((power[1:8].cumsum(0) > power[8:15].cumsum(0)).all())
    assert abs(float(shares[principal_components][0]) - 8 / math.pi**2) < 1e-3
    assert abs(float(shares[bridge][0]) - 2 / 3) < 1e-2


def test_points_without_a_scramble_are_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_scramble, "_digits", lambda seed, size: np.zeros((31, size), np.int32))
    ours = ScrambledSobol(15, [0], 0, 64, torch.device("cpu")).uniforms(slice(0, 15)).mT
    theirs = 2 * (SobolEngine(15).draw(64, dtype=torch.float64) + 2.0**-31) - 1
    order, other = (p[:, 0].argsort() for p in (ours, theirs))
    assert_close(ours[order], theirs[other], 1e-12)


@pytest.mark.parametrize("first", [0, 64])
def test_scrambled_points_are_a_net(first: int) -> None:
    """One point in each of 64 dyadic boxes of any shape in the first two coordinates, and in each
    of 64 intervals in every other; uniform over scrambles; no two scrambles alike.
    """
    points = ScrambledSobol(6, list(range(300)), first, 64, torch.device("cpu"))
    u = (points.uniforms(slice(0, 6)).unflatten(1, (300, 64)) + 1) / 2
    for j in range(7):
        box = (u[0] * 2**j).long() * 2 ** (6 - j) + (u[1] * 2 ** (6 - j)).long()
        assert torch.equal(box.sort(1).values, torch.arange(64).expand(300, -1))
    assert torch.equal((u * 64).long().sort(2).values, torch.arange(64).expand(6, 300, -1))
    for coordinate in u[..., 5]:
        assert kstest(coordinate.numpy(), "uniform").pvalue > 1e-4
    # within a cell of the net, points of different coordinates and scrambles are independent
    rest = (u[:, :, 7] * 64).frac() - 0.5
    assert float((rest @ rest.mT / 300 - torch.eye(6) / 12).abs().max()) < 5 / 12 / 300**0.5


@pytest.mark.parametrize("construction", ["bridge", "pca"])
def test_points_do_not_depend_on_tiles_or_batches(construction: str) -> None:
    source = Sobol(7, scrambles=2, construction=construction)  # type: ignore[arg-type]  # two literals, as a string
    whole = draw(source, GRID, 64, 2)

    def part(start: int, stop: int) -> Tensor:
        stream = source.stream(Tile(GRID, 0, start, stop, 64))
        out = torch.empty(stop - start, 2, dtype=torch.float64)
        return stream.increment(0.0, 0.2, out)

    for size in (8, 32):
        tiles = [part(i, i + size) for i in range(0, 64, size)]
        assert_close(torch.cat(tiles).sort(0).values, whole[0].sort(0).values, 1e-12)
    # the first 8 points of a scramble and the next 8 are its first 16
    first, next_ = (draw(s, GRID, 16)[0, :8] for s in (source, source.after(16)))
    both = torch.cat([first, next_]).sort(0).values
    assert_close(both, draw(source, GRID, 32)[0, :16].sort(0).values, 1e-12)


def test_sobol_points_are_balanced() -> None:
    """Means and covariances that white noise would miss by 1/√4096 = 0.016."""
    for construction in ("bridge", "pca"):
        source = Sobol(3, scrambles=1, construction=construction)
        dw = draw(source, GRID, 4096, 2)
        scaled = (dw / GRID.lengths.sqrt()[:, None, None]).permute(1, 0, 2).flatten(1)
        assert float(scaled.mean(0).abs().max()) < 2e-3
        covariance = scaled.mT @ scaled / 4096
        assert float((covariance - torch.eye(10)).abs().max()) < 1.2e-2


SOURCES = [
    WhiteNoise(5),
    Antithetic(5),
    MomentMatched(5, group=256),
    Sobol(5),
    Sobol(5, construction="pca"),
]


@pytest.mark.parametrize(
    "source",
    [*SOURCES, Sobol(5, scrambles=4096), Coarsened(Sobol(5), GRID.refine(3))],
    ids=lambda s: type(s).__name__,
)
def test_increments_are_gaussian(source: NoiseSource) -> None:
    """By Kolmogorov and Smirnov's test; better balanced samples are only closer."""
    dw = draw(source, GRID, 4096)[..., 0] / GRID.lengths.sqrt()[:, None]
    for z in (*dw, dw.sum(0) / math.sqrt(GRID.steps)):
        assert kstest(z.numpy(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_coarse_noise_is_the_sum_of_the_fine(source: NoiseSource) -> None:
    fine = GRID.refine(3)
    sums = draw(source, fine, 4096, 2).unflatten(0, (-1, 3)).sum(1)
    assert_close(draw(Coarsened(source, fine), GRID, 4096, 2), sums, 1e-12)
    assert_close(draw(Coarsened(source, fine), fine, 4096, 2).sum(0), sums.sum(0), 1e-12)


def test_coarse_nodes_must_be_fine_nodes() -> None:
    tile = Tile(TimeGrid.uniform(1.0, 3), 0, 0, 8, 8)
    with pytest.raises(CtcontrolError, match=r"t = 0\.666667 is not one of the fine"):
        Coarsened(WhiteNoise(1), TimeGrid.uniform(1.0, 4)).stream(tile)


def test_antithetic_paths_mirror_each_other() -> None:
    for paths in (10, 20_000):  # one tile, and several
        source = Antithetic(1)
        dw = draw(source, GRID, paths, 2)
        for rows in source.tiles(paths):
            half = len(rows) // 2
            first, second = dw[:, rows.start : rows.stop].split(half, 1)
            assert torch.equal(first, -second)
            assert not bool((first == 0).any())
        assert_close(source.replicates(dw[0, :, 0]), torch.zeros(paths // 2), 0.0)


def test_moments_of_a_group_are_exact() -> None:
    dw = draw(MomentMatched(1, group=64), GRID, 20_480, 3) / GRID.lengths.sqrt()[:, None, None]
    groups = dw.unflatten(1, (-1, 64))
    assert float(groups.mean(2).abs().max()) < 1e-13
    covariance = groups.mT @ groups / 64
    assert_close(covariance, torch.eye(3, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize(
    ("source", "paths", "message"),
    [
        (Antithetic(1), 7, "come in pairs, got 7"),
        (MomentMatched(1, group=8), 12, "groups of 8 paths, and 12 are no multiple"),
        (MomentMatched(1, group=2), 4, "cannot match the covariance of 2 noises"),
        (Sobol(1), 48, r"16 scrambles of 2\^k paths each, and 48 is no such number; take 64"),
        (Sobol(1), 8, "take 16"),
        (Sobol(1).after(128), 256, "16 points of each scramble cannot follow the first 8"),
    ],
)
def test_numbers_of_paths_that_do_not_fit(source: NoiseSource, paths: int, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        draw(source, GRID, paths, 2)


def test_sobol_paths_have_an_end() -> None:
    with pytest.raises(CtcontrolError, match=r"at most 21201 coordinates, and 22000 steps of 1"):
        draw(Sobol(1, scrambles=1), TimeGrid.uniform(1.0, 22_000), 1)
    with pytest.raises(CtcontrolError, match="'bridge' or 'pca', got 'halton'"):
        Sobol(1, construction="halton")  # type: ignore[arg-type]  # what is tested
    stream = Sobol(1).stream(Tile(GRID, 0, 0, 16, 16))
    with pytest.raises(CtcontrolError, match=r"one grid, in order: 0\.2 was asked for"):
        stream.increment(0.2, 0.25, torch.empty(16, 1))
