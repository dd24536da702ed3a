"""Random numbers drawn for all paths of a tile, of which every part of the tile gets its own."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ctcontrol._motion import Normal
from ctcontrol.noise import NoiseStream

Drawn = tuple[Tensor, float]
"""Numbers, and by what they are still to be multiplied."""


@dataclass(eq=False)
class Deal:
    """The first part that comes to a step draws for all, in the order in which one tile would.

    So the numbers of a path are those that it has in a tile that is not divided.

    Attributes:
        total: paths of the tile.
        share: those of this process, whose numbers are kept until all its parts have run.
        generator: of the actions.
        stream: the noise of the tile.
    """

    total: int
    share: range
    generator: torch.Generator
    stream: NoiseStream
    drawn: dict[Hashable, Drawn] = field(default_factory=dict)

    def actions(self, part: range) -> Normal:
        """The normals of a part's actions."""

        rows = self._rows(part)

        def draw(out: Tensor) -> float:
            out.normal_(generator=self.generator)
            return 1.0

        def normal(k: int, like: Tensor) -> Tensor:
            return self._take(("action", k), like, draw)[0][rows]

        return normal

    def noise(self, part: range) -> NoiseStream:
        """The noise of a part."""
        return _Dealt(self, self._rows(part))

    def interval(self, key: Hashable, out: Tensor, draw: Callable[[Tensor], float]) -> Drawn:
        """The noise of this process's paths over an interval."""
        return self._take(key, out, draw)

    def _take(self, key: Hashable, like: Tensor, draw: Callable[[Tensor], float]) -> Drawn:
        if key not in self.drawn:
            every = _empty(self.total, like)
            rest = draw(every)
            mine = every[self.share.start : self.share.stop]
            self.drawn[key] = (mine if len(self.share) == self.total else mine.clone(), rest)
        return self.drawn[key]

    def _rows(self, part: range) -> slice:
        return slice(part.start - self.share.start, part.stop - self.share.start)


class _Dealt(NoiseStream):
    """The rows of one part."""

    def __init__(self, deal: Deal, rows: slice) -> None:
        self.deal, self.rows = deal, rows

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        def draw(every: Tensor) -> float:
            self.deal.stream.increment(t0, t1, every)
            return 1.0

        every, _ = self.deal.interval((t0, t1), out, draw)
        return out.copy_(every[self.rows])

    def scaled(self, t0: float, t1: float, scale: float, out: Tensor) -> float:
        def draw(every: Tensor) -> float:
            return self.deal.stream.scaled(t0, t1, scale, every)

        every, rest = self.deal.interval((t0, t1, scale), out, draw)
        out.copy_(every[self.rows])
        return rest


def _empty(rows: int, like: Tensor) -> Tensor:
    """Room for `rows` rows that lie in memory as those of `like` do."""
    if like.ndim == 2 and not like.is_contiguous():
        return like.new_empty(like.shape[1], rows).mT
    last = like.ndim == 4 and not like.is_contiguous()
    if last and like.is_contiguous(memory_format=torch.channels_last):
        return like.new_empty(rows, *like.shape[1:]).to(memory_format=torch.channels_last)
    return like.new_empty(rows, *like.shape[1:])
