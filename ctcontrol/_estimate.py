"""A Monte-Carlo number always carries its error bar."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """mean ± stderr over `n` independent samples.

    Attributes:
        path_steps: what it cost, paths times steps, where that was counted.
        bias: what the discretization may have added besides, where that was estimated.
    """

    mean: float
    stderr: float
    n: int
    path_steps: int = 0
    bias: float = 0.0

    @classmethod
    def of(cls, samples: Tensor) -> "Estimate":
        """From independent samples (n,); the stderr of a single sample is nan."""
        tally = Tally()
        tally.add(samples)
        return tally.estimate()

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.stderr:.2g}"


class Tally:
    """Mean and variance of samples that come in parts and are not kept (Chan et al. 1983).

    Attributes:
        n: samples so far.
        mean: of them.
        squares: sum of squared distances from the mean.
    """

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, samples: Tensor) -> None:
        """Count in independent samples (n,)."""
        values = samples.detach().double().flatten()
        more, mean = len(values), float(values.mean())
        total, gap = self.n + more, mean - self.mean
        self.squares += float((values - mean).square().sum()) + gap**2 * self.n * more / total
        self.mean += gap * more / total
        self.n = total

    @property
    def variance(self) -> float:
        """Of a sample; nan for a single one."""
        return self.squares / (self.n - 1) if self.n > 1 else math.nan

    def estimate(self, path_steps: int = 0) -> Estimate:
        """The mean with its error bar, and what it cost."""
        return Estimate(self.mean, math.sqrt(self.variance / self.n), self.n, path_steps)
