"""White noise whose sample moments are right: mirrored paths, and matched groups of paths."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_count
from ctcontrol.noise._base import TILE, NoiseStream, SeededNoise, Tile, seed_of
from ctcontrol.noise._white import WhiteStream


@dataclass(frozen=True)
class Antithetic(SeededNoise):
    """Every path has a mirror image: path i + n/2 of a tile of n gets −ΔW of path i.

    What is odd in the noise then has the mean it must have, exactly; what is even costs as much as
    before. Unbiased. Initial states and sampled actions are not mirrored. Replicates are the means
    of pairs. (Hammersley and Morton 1956; Glasserman 2003, 4.2.)

    Attributes:
        seed: ≥ 0.
    """

    def stream(self, tile: Tile) -> NoiseStream:
        _check_even(tile.batch)
        return _AntitheticStream(WhiteStream(seed_of(self.seed, tile.index)))

    def tiles(self, total: int) -> list[range]:
        _check_even(total)
        return super().tiles(total)

    def replicates(self, samples: Tensor) -> Tensor:
        """Means of the pairs, (batch/2,)."""
        tiles = [samples[tile.start : tile.stop] for tile in self.tiles(len(samples))]
        return torch.cat([tile.reshape(2, -1).mean(0) for tile in tiles])


def _check_even(paths: int) -> None:
    if paths % 2:
        raise CtcontrolError(f"antithetic paths come in pairs, got {paths}; ask for an even number")


class _AntitheticStream(NoiseStream):
    """`white` for the first half of the paths, its negative for the second."""

    def __init__(self, white: WhiteStream) -> None:
        self.white = white

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        half = len(out) // 2
        first = self.white.increment(t0, t1, torch.empty_like(out[:half]))
        out[:half] = first
        torch.neg(first, out=out[half:])
        return out


@dataclass(frozen=True)
class MomentMatched(SeededNoise):
    """The increments of a step have mean 0 and covariance Δ I exactly, over groups of paths.

    White noise less its mean, times the inverse Cholesky factor of its covariance. A function
    quadratic in all increments keeps its mean; others get a bias of O(1/group), because whitened
    samples are not quite Gaussian. Groups are independent: replicates are their means. (Glasserman
    2003, 4.5.)

    Attributes:
        seed: ≥ 0.
        group: paths matched together; must exceed the number of noises of a path, and divide the
            number of paths.
    """

    group: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("group", self.group, least=2)

    def stream(self, tile: Tile) -> NoiseStream:
        self._check(tile.batch)
        return _MatchedStream(WhiteStream(seed_of(self.seed, tile.index)), self.group)

    def tiles(self, total: int) -> list[range]:
        self._check(total)
        size = max(TILE // self.group, 1) * self.group
        if total <= 2 * size:
            return [range(total)]
        return [range(i, min(i + size, total)) for i in range(0, total, size)]

    def replicates(self, samples: Tensor) -> Tensor:
        """Means of the groups, (batch/group,)."""
        self._check(len(samples))
        return samples.reshape(-1, self.group).mean(1)

    def _check(self, paths: int) -> None:
        if paths % self.group:
            raise CtcontrolError(
                f"moments are matched over groups of {self.group} paths, and {paths} are no "
                "multiple of that; change either"
            )


class _MatchedStream(NoiseStream):
    """`white`, whitened over groups of paths."""

    def __init__(self, white: WhiteStream, group: int) -> None:
        self.white, self.group = white, group

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        noises = out[0].numel()
        if noises >= self.group:
            raise CtcontrolError(
                f"{self.group} paths cannot match the covariance of {noises} noises; make the "
                f"group larger than {noises}"
            )
        rows = self.white.increment(0.0, 1.0, out.new_empty(noises, len(out)))
        z = rows.unflatten(1, (-1, self.group)).transpose(0, 1)  # (groups, noises, paths)
        z = z - z.mean(2, keepdim=True)
        factor = torch.linalg.cholesky(z @ z.mT / self.group)
        z = torch.linalg.solve_triangular(factor, z, upper=False) * math.sqrt(t1 - t0)
        return out.copy_(z.transpose(0, 1).flatten(1).mT.reshape(out.shape))
