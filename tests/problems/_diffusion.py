"""Variance-preserving reverse diffusions of Gaussian data: linear problems again."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.problems._linear import Isotropic, LinearProblem, QuadraticReward


@dataclass(frozen=True)
class GaussianDiffusion:
    """Variance-preserving noise β_s = bmin + (bmax − bmin)s on s ∈ [0, 1], data N(mean, variance).

    Written in the diffusion clock, and turned to control time t = 1 − s in one place.
    """

    bmin: float = 0.1
    bmax: float = 8.0
    mean: float = 0.7
    variance: float = 0.5

    def beta(self, t: Tensor) -> Tensor:
        """β at s = 1 − t."""
        return self.bmin + (self.bmax - self.bmin) * (1 - t)

    def alpha(self, t: Tensor) -> Tensor:
        """exp(−½∫₀ˢβ) at s = 1 − t."""
        s = 1 - t
        return torch.exp(-0.5 * (self.bmin * s + 0.5 * (self.bmax - self.bmin) * s**2))

    def marginal(self, t: Tensor) -> Tensor:
        """Variance of p_s."""
        return 1 + self.alpha(t) ** 2 * (self.variance - 1)

    def control(
        self,
        kl_weight: float,
        linear: float = 0.0,
        square: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> LinearProblem:
        """Fine-tuning from the exact score, reward linear·y − square·y², started at p_1."""
        start = torch.zeros(1, dtype=torch.float64)
        return LinearProblem(
            sde=Isotropic(
                lambda t: 0.5 * self.beta(t), lambda t: self.beta(t), lambda t: self.beta(t).sqrt()
            ),
            reward=QuadraticReward(
                Q=torch.zeros(1, 1, dtype=dtype),
                R=0.0,
                G=torch.full((1, 1), square, dtype=dtype),
                g=torch.full((1,), linear, dtype=dtype),
            ),
            horizon=1.0,
            start_mean=(self.alpha(start) * self.mean).to(dtype),
            start_std=float(self.marginal(start).sqrt()),
            kl_weight=kl_weight,
            slope=lambda t: 1 / self.marginal(t),
            offset=lambda t: self.alpha(t) * self.mean / self.marginal(t),
        )
