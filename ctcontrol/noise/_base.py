"""What noise is: a recipe, of which every tile of paths gets its own source."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_count
from ctcontrol._time_grid import TimeGrid

TILE = 8192
"""Paths simulated together: enough to hide the cost of a call, few enough to stay in the cache."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Paths `start` … `stop` − 1 of `total`, which run together on `grid`.

    Attributes:
        index: of the tile; with the seed it decides the random numbers, so that results do not
            depend on how many threads share the tiles.
    """

    grid: TimeGrid
    index: int
    start: int
    stop: int
    total: int

    @property
    def batch(self) -> int:
        """Number of paths."""
        return self.stop - self.start


class NoiseSource(ABC):
    """A recipe for the increments of independent Brownian motions.

    The same recipe gives the same noise again, on whatever thread and however often it is asked.

    Attributes:
        continues: whether further paths (`after`) refine the replicates of the first ones, as the
            next points of a net do, instead of adding independent ones.
    """

    continues: ClassVar[bool] = False

    @abstractmethod
    def stream(self, tile: Tile) -> "NoiseStream":
        """The increments of the paths of this tile, from the beginning."""

    def tiles(self, total: int) -> list[range]:
        """The paths 0 … total − 1 in tiles.

        Raises:
            CtcontrolError: this noise cannot be made for so many paths.
        """
        if total <= 2 * TILE:
            return [range(total)]
        return [range(i, min(i + TILE, total)) for i in range(0, total, TILE)]

    def replicates(self, samples: Tensor) -> Tensor:
        """Independent numbers whose mean is that of `samples` (batch,), one a path.

        Their spread gives the error bar of the mean. By default paths are independent.
        """
        return samples

    def after(self, start: int) -> "NoiseSource":
        """The noise of further paths, after the first `start`: how a simulation is continued.

        Raises:
            CtcontrolError: this noise was made for one batch alone.
        """
        raise CtcontrolError(
            f"{type(self).__name__} is the noise of one batch and has none for further paths; take "
            "WhiteNoise(seed), or another recipe with a seed"
        )


@dataclass(frozen=True)
class SeededNoise(NoiseSource):
    """A recipe that a seed decides; another seed gives independent noise.

    Attributes:
        seed: ≥ 0.
    """

    seed: int

    def __post_init__(self) -> None:
        check_count("seed", self.seed, least=0)

    def after(self, start: int) -> Self:
        return replace(self, seed=seed_of(self.seed, start)) if start else self


class NoiseStream(NoiseSource):
    """NoiseSource at work: fills a buffer with W_{t1} − W_{t0}, interval after interval.

    One that is handed to `simulate` serves all paths at once and goes on where it stopped.
    """

    @abstractmethod
    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        """Write N(0, (t1 − t0) I) into `out` (batch, *noise) and return it."""

    def scaled(self, t0: float, t1: float, scale: float, out: Tensor) -> float:
        """Write noise into `out` that still has to be multiplied by what is returned.

        The product is `scale` · (W_{t1} − W_{t0}). Override where one of the factors is free.
        """
        self.increment(t0, t1, out)
        return scale

    def scaler(self, like: Tensor) -> "Scaler":
        """`scaled`, for buffers of the dtype, device and layout of `like`: what is to be found out
        about these may be found out once."""
        return self.scaled

    def stream(self, tile: Tile) -> "NoiseStream":
        if tile.batch != tile.total:
            raise CtcontrolError(
                f"{type(self).__name__} is one source for all paths, but these come in tiles"
            )
        return self

    def tiles(self, total: int) -> list[range]:
        return [range(total)]


Scaler = Callable[[float, float, float, Tensor], float]
"""(t0, t1, scale, out) -> by what `out` is still to be multiplied."""


def seed_of(seed: int, *place: int) -> int:
    """A seed for one place, as good as independent of those of all other places and seeds."""
    return int(np.random.SeedSequence((seed, *place)).generate_state(1, np.uint64)[0])
