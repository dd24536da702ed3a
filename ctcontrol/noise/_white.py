"""Fresh independent increments, and none at all."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctcontrol.noise._base import NoiseSource, NoiseStream, Scaler, SeededNoise, Tile, seed_of


@dataclass(frozen=True)
class WhiteNoise(SeededNoise):
    """Independent increments for every path and interval, replayed by their seed.

    Drawn by the fastest generator there is for device and dtype: NumPy's SFC64 for float64 on the
    CPU, torch's own elsewhere. Paths [0, n) are the same however many follow, up to whole tiles.

    Attributes:
        seed: ≥ 0.
        single: draw float64 noise in float32, which is twice as fast: its numbers are multiples of
            2⁻²⁴ of their size and none exceeds 5.8 standard deviations.
    """

    single: bool = False

    def stream(self, tile: Tile) -> NoiseStream:
        return WhiteStream(seed_of(self.seed, tile.index), single=self.single)


class WhiteStream(NoiseStream):
    """One stream of white noise.

    Args:
        seed: of the stream, ≥ 0.
        single: draw float64 noise in float32.
    """

    def __init__(self, seed: int, *, single: bool = False) -> None:
        self.seed, self.single = seed, single
        self._draft: Tensor | None = None
        self._fast: np.random.Generator | None = None
        self._general: torch.Generator | None = None

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        rest = self.normal(math.sqrt(t1 - t0), out)
        return out if rest == 1 else out.mul_(rest)

    def scaled(self, t0: float, t1: float, scale: float, out: Tensor) -> float:
        return self.normal(math.sqrt(t1 - t0) * scale, out)

    def after(self, start: int) -> "WhiteStream":
        return self

    def scaler(self, like: Tensor) -> Scaler:
        fill = self._filler(like)

        def scaled(t0: float, t1: float, scale: float, out: Tensor) -> float:
            return fill(math.sqrt(t1 - t0) * scale, out)

        return scaled

    def normal(self, std: float, out: Tensor) -> float:
        """Write normals into `out`; returns by what they are still to be multiplied."""
        return self._filler(out)(std, out)

    def _filler(self, like: Tensor) -> Callable[[float, Tensor], float]:
        """`normal` for tensors like this one."""
        if like.ndim == 2 and not like.is_contiguous() and like.mT.is_contiguous():
            fill = self._filler(like.mT)
            return lambda std, out: fill(std, out.mT)  # in columns: fill memory in its order
        double = like.dtype == torch.float64
        if double and self.single:
            return self._through_single
        if double and like.device.type == "cpu" and like.is_contiguous():
            fast = self._fast = self._fast or np.random.Generator(np.random.SFC64(self.seed))

            def standard(std: float, out: Tensor) -> float:
                fast.standard_normal(out=out.numpy())
                return std

            return standard
        if self._general is None or self._general.device != like.device:
            self._general = torch.Generator(like.device).manual_seed(self.seed)
        general = self._general

        def scaled(std: float, out: Tensor) -> float:
            out.normal_(0.0, abs(std), generator=general)
            return 1.0 if std >= 0 else -1.0

        return scaled

    def _through_single(self, std: float, out: Tensor) -> float:
        if self._draft is None or self._draft.shape != out.shape:
            self._draft = torch.empty_like(out, dtype=torch.float32)
        rest = self.normal(std, self._draft)
        out.copy_(self._draft)
        return rest


class ZeroNoise(NoiseStream):
    """No noise: for deterministic dynamics, and for policies that carry the noise themselves."""

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        return out.zero_()

    def stream(self, tile: Tile) -> "ZeroNoise":
        return self

    def after(self, start: int) -> "ZeroNoise":
        return self

    def tiles(self, total: int) -> list[range]:
        return NoiseSource.tiles(self, total)
