"""The noise of a coarse grid, summed up from that of a fine one."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._time_grid import TimeGrid
from ctcontrol.noise._base import NoiseSource, NoiseStream, Tile


@dataclass(frozen=True, eq=False)
class Coarsened(NoiseSource):
    """ΔW of a coarse interval = Σ ΔW of the fine intervals in it, as `source` gives them.

    Simulate on the fine grid with `source` and on the coarse one with this: the same Brownian
    path, so that the two returns differ by the discretization alone (multilevel Monte Carlo).
    The source is asked for each interval of the fine grid in turn, never for a longer one.

    Attributes:
        source: a recipe for the fine grid.
        fine_grid: has every node of the coarse grid.
    """

    source: NoiseSource
    fine_grid: TimeGrid

    def stream(self, tile: Tile) -> NoiseStream:
        fine, coarse = self.fine_grid.times, tile.grid.times
        nearest = torch.searchsorted(fine, coarse).clamp(max=len(fine) - 1)
        gaps = torch.minimum(
            (fine[nearest] - coarse).abs(), (fine[(nearest - 1).clamp(min=0)] - coarse).abs()
        )
        if float(gaps.max()) > _SLACK * tile.grid.horizon:
            raise CtcontrolError(
                f"the coarse node t = {float(coarse[gaps.argmax()]):g} is not one of the fine "
                "grid; make the fine grid by `coarse.refine(k)`"
            )
        return _SummedStream(self.source.stream(replace(tile, grid=self.fine_grid)), self.fine_grid)

    def tiles(self, total: int) -> list[range]:
        return self.source.tiles(total)

    def replicates(self, samples: Tensor) -> Tensor:
        return self.source.replicates(samples)

    def after(self, start: int) -> "Coarsened":
        return replace(self, source=self.source.after(start))


_SLACK = 1e-9
"""Nodes this much of a horizon apart are the same."""


class _SummedStream(NoiseStream):
    """Sums the increments of `inner` over its grid, up to each time that is asked for."""

    def __init__(self, inner: NoiseStream, grid: TimeGrid) -> None:
        self.inner, self.slack = inner, _SLACK * grid.horizon
        self.rest = iter(pairwise(grid.times.tolist()))
        self.part: Tensor | None = None

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        if self.part is None:
            self.part = torch.empty_like(out)
        out.zero_()
        for begin, end in self.rest:
            if end > t0 + self.slack:
                out.add_(self.inner.increment(begin, end, self.part))
            if end >= t1 - self.slack:
                break
        return out
