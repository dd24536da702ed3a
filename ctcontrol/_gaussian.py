"""Gaussian laws over actions and transitions, sampled with an explicit generator."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._tensor import like, sum_event
from ctcontrol._typing import Action, Scalar


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, diag(std²)).

    Attributes:
        mean: (batch, *event).
        std: (batch,) for std·I, or (batch, *event) for a diagonal; 0 makes it a point mass.
    """

    mean: Action
    std: Tensor

    @property
    def spread(self) -> Tensor:
        """The std with event axes, ready to multiply `mean`."""
        return like(self.std, self.mean)

    def sample(self, generator: torch.Generator) -> Action:
        """mean + std · ξ with ξ drawn from `generator`."""
        return self.at(torch.empty_like(self.mean).normal_(generator=generator))

    def at(self, noise: Tensor) -> Action:
        """mean + std · `noise`."""
        return self.mean + self.spread * noise

    def log_prob(self, a: Action) -> Scalar:
        """log density at `a`, summed over event axes."""
        spread = self.spread.expand_as(self.mean)
        z = (a - self.mean) / spread
        return sum_event(-0.5 * z**2 - spread.log() - 0.5 * math.log(2 * math.pi))

    def log_ratio(self, other: "Gaussian", a: Action) -> Scalar:
        """log self(a) − log other(a), subtracted coordinate by coordinate before summing.

        In float32 this keeps the ratio of two nearby laws accurate in thousands of dimensions,
        where the difference of two summed log densities is not.
        """
        p, q = self.spread, other.spread
        z, w = (a - self.mean) / p, (a - other.mean) / q
        terms = 0.5 * (w - z) * (w + z) + (q / p).log()
        return sum_event(terms.expand_as(self.mean))

    def kl(self, other: "Gaussian") -> Scalar:
        """KL(self ‖ other), summed over event axes, in nats."""
        p, q = self.spread.expand_as(self.mean), other.spread.expand_as(self.mean)
        gap = (self.mean - other.mean) / q
        return sum_event((q / p).log() + 0.5 * ((p / q) ** 2 + gap**2 - 1))

    def entropy(self) -> Scalar:
        """Differential entropy in nats, summed over event axes."""
        spread = self.spread.expand_as(self.mean)
        return sum_event(spread.log() + 0.5 * (1 + math.log(2 * math.pi)))
