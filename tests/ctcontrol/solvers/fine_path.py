"""One Brownian path on all grids: increments and areas of a fine grid, put together exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol import ControlledSDE, Scheme
from tests.helpers import normal, slope


@dataclass(frozen=True, eq=False)
class FinePath:
    """W on [0, 1] in `steps` equal steps: (steps, batch, k) increments ΔW, and U as in `SRA1`."""

    increments: Tensor
    areas: Tensor

    @classmethod
    def draw(cls, steps: int, batch: int, k: int, seed: int = 0) -> "FinePath":
        both = normal(2, steps, batch, k, seed=seed) / math.sqrt(steps)
        return cls(both[0], both[1])

    @property
    def steps(self) -> int:
        return len(self.increments)

    def coarse(self, steps: int) -> "FinePath":
        """The same path in fewer steps: ΔZ of a whole is Σ ΔZ_j + (W_j − W_0)Δ_j of its parts."""
        parts = self.steps // steps
        W, U = (v.unflatten(0, (steps, parts)) for v in (self.increments, self.areas))
        before = W.cumsum(1) - W
        Z = ((W + U / math.sqrt(3)) / 2 + before).sum(1) / self.steps
        return FinePath(W.sum(1), math.sqrt(3) * (2 * Z * steps - W.sum(1)))

    def noise(self, k: int, like: Tensor) -> Tensor:
        """The noise of step k in the shape that a scheme asked for."""
        if like.ndim == self.increments.ndim:
            return torch.stack([self.increments[k], self.areas[k]], 1)
        return self.increments[k]

    def march(self, scheme: Scheme, sde: ControlledSDE, x: Tensor) -> Tensor:
        """X_1 from x (batch, d); action 0."""
        times = torch.linspace(0, 1, self.steps + 1, dtype=x.dtype)
        a = torch.zeros_like(x)
        for k in range(self.steps):
            t0, t1 = (t.expand(len(x)) for t in (times[k], times[k + 1]))
            dw = self.noise(k, scheme.noise_like(sde, t0, x, a))
            x = scheme.step(sde, t0, t1, x, a, dw, None)
        return x


def order(steps: Sequence[int], errors: Tensor, blocks: int = 20) -> tuple[float, float]:
    """Order of convergence and its standard error, from errors (len(steps), batch) of paths.

    −slope of log|mean error| against log steps; the error bar is that of the slopes of blocks of
    independent paths.
    """
    slopes = torch.tensor(
        [slope(steps, part.mean(1).tolist()) for part in errors.chunk(blocks, dim=1)]
    )
    return -slope(steps, errors.mean(1).tolist()), float(slopes.std()) / blocks**0.5
