"""A Monte-Carlo number always carries its error bar."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """mean ± stderr over `n` independent samples."""

    mean: float
    stderr: float
    n: int

    @classmethod
    def of(cls, samples: Tensor) -> "Estimate":
        """From independent samples (n,); the stderr of a single sample is nan."""
        values = samples.detach().double().flatten()
        n = len(values)
        spread = float(values.std()) / math.sqrt(n) if n > 1 else math.nan
        return cls(float(values.mean()), spread, n)

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.stderr:.2g}"
