"""Scrambled Sobol points as Brownian paths."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor
from torch.quasirandom import SobolEngine

from ctcontrol._checks import CtcontrolError, check_count
from ctcontrol._time_grid import TimeGrid
from ctcontrol.noise._base import TILE, NoiseStream, SeededNoise, Tile, seed_of
from ctcontrol.noise._construct import bridge, principal_components
from ctcontrol.noise._scramble import ScrambledSobol

PCA_TILE = 2048
"""Paths a tile where all increments of a tile are made at once."""


@dataclass(frozen=True)
class Sobol(SeededNoise):
    """Paths from scrambled Sobol points: for smooth integrands the error falls nearly as n^{−3/2}.

    Every replicate has 2^k points of its own scramble: a random linear matrix scramble and a
    digital shift, whose variance is that of Owen's nested scrambling (Matoušek 1998; Owen 2003,
    "Variance with alternative scramblings of digital nets"). Each point is uniform, so estimates
    are unbiased, and the spread of the independent replicates is an honest error bar with
    `scrambles` − 1 degrees of freedom. Points have 30 bits and are computed in float64.

    The first points go where most of the variance of W is: `bridge` sets the end of the path first
    and then halves intervals of nodes (Caflisch, Morokoff and Owen 1997), on any grid; `pca` takes
    the eigenvectors of min(t_i, t_j) (Acworth, Broadie and Glasserman 1998), at N² operations a
    path and noise, and N³ once. Initial states and sampled actions stay pseudo-random: their part
    of the variance falls as 1/n.

    Attributes:
        seed: ≥ 0.
        scrambles: independent replicates; the number of paths is `scrambles` times a power of two.
        construction: of the path from the points.
        skip: points of each scramble passed over, 0 or a multiple of those taken (`after`).

    Raises:
        CtcontrolError: another number of paths, or more than 21,201 noises a path over all steps,
            where torch's table of direction numbers ends.
    """

    scrambles: int = 16
    construction: Literal["bridge", "pca"] = "bridge"
    skip: int = 0

    continues: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("scrambles", self.scrambles)
        check_count("skip", self.skip, least=0)
        if self.construction not in ("bridge", "pca"):
            raise CtcontrolError(
                f"construction must be 'bridge' or 'pca', got {self.construction!r}"
            )

    def stream(self, tile: Tile) -> NoiseStream:
        points = self._points(tile.total)
        if self.skip % points:
            raise CtcontrolError(
                f"{points} points of each scramble cannot follow the first {self.skip}; go on "
                "with as many paths as there are, or a part of them"
            )
        rows = min(points, tile.batch)
        return _SobolStream(
            seeds=[
                seed_of(self.seed, path // points) for path in range(tile.start, tile.stop, rows)
            ],
            first=self.skip + tile.start % points,
            rows=rows,
            grid=tile.grid,
            construction=self.construction,
        )

    def tiles(self, total: int) -> list[range]:
        points = self._points(total)
        most = TILE if self.construction == "bridge" else PCA_TILE
        size = most if points >= most else most // points * points
        if total <= 2 * size:
            size = total
        return [range(i, min(i + size, total)) for i in range(0, total, size)]

    def replicates(self, samples: Tensor) -> Tensor:
        """Means of the scrambles, (scrambles,)."""
        return samples.reshape(self.scrambles, self._points(len(samples))).mean(1)

    def after(self, start: int) -> "Sobol":
        """The next points of the same scrambles."""
        return replace(self, skip=self.skip + start // self.scrambles)

    def _points(self, total: int) -> int:
        """Points a scramble, 2^k."""
        points = total // self.scrambles
        if points * self.scrambles != total or points & (points - 1):
            near = self.scrambles * 2 ** round(math.log2(max(total / self.scrambles, 1)))
            raise CtcontrolError(
                f"Sobol points come as {self.scrambles} scrambles of 2^k paths each, and {total} "
                f"is no such number; take {near}"
            )
        return points


class _SobolStream(NoiseStream):
    """Points `first` … `first` + `rows` − 1 of scrambles with these seeds, one after the other."""

    def __init__(
        self,
        seeds: list[int],
        first: int,
        rows: int,
        grid: TimeGrid,
        construction: Literal["bridge", "pca"],
    ) -> None:
        self.seeds, self.first, self.rows = seeds, first, rows
        self.times = (grid.times - grid.times[0]).tolist()
        self.start = float(grid.times[0])
        self.construct = bridge if construction == "bridge" else principal_components
        self.k = 0

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        if self.k == 0:
            self._begin(out)
        elapsed = self.times[min(self.k, len(self.times) - 1)] + self.start
        if abs(elapsed - t0) > 1e-9 * max(t1, 1e-300):
            raise CtcontrolError(
                f"Sobol paths are made for the nodes of one grid, in order: {t0:g} was asked for "
                f"instead of {elapsed:g}; use the same noise for one simulation at a time"
            )
        self.k += 1
        rows = next(self.increments)  # (noises, paths)
        return out.copy_(rows.mT.reshape(out.shape))

    def _begin(self, out: Tensor) -> None:
        noises, steps = out[0].numel(), len(self.times) - 1
        size = noises * steps
        if size > SobolEngine.MAXDIM:
            raise CtcontrolError(
                f"Sobol points have at most {SobolEngine.MAXDIM} coordinates, and {steps} steps of "
                f"{noises} noises need {size}; take fewer steps, or Antithetic or MomentMatched"
            )
        self.noises = noises
        self.points = ScrambledSobol(size, self.seeds, self.first, self.rows, out.device)
        self.increments = self.construct(tuple(self.times), self._normals)

    def _normals(self, index: int) -> Tensor:
        """The `index`-th most important N(0, I) of all paths, (noises, paths), float64."""
        u = self.points.uniforms(slice(index * self.noises, (index + 1) * self.noises))
        return u.erfinv_().mul_(math.sqrt(2.0))  # Φ⁻¹(u) = √2 erf⁻¹(2u − 1)
