"""Diffusion models of Gaussian data, whose every number is known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ctcontrol import Solver, TimeGrid, like
from ctcontrol.exact.tilt import VariancePreserving
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import NoiseSchedule

Correction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GaussianModel:
    """Data N(mean, variance I) under β_s = beta_min + (beta_max − beta_min) s, as a fine table."""

    beta_min: float = 0.1
    beta_max: float = 8.0
    mean: float = 0.7
    variance: float = 0.5
    floor: float = 0.0
    entries: int = 2000

    @cached_property
    def schedule(self) -> NoiseSchedule:
        """The table."""
        exact = VariancePreserving(self.beta_min, self.beta_max)
        s = torch.arange(1, self.entries + 1, dtype=torch.float64) / self.entries
        return NoiseSchedule.from_alphas_cumprod((-exact.integral(s)).exp(), self.floor)

    @property
    def sde(self) -> ReverseSDE:
        """Its sampling as a control problem."""
        return ReverseSDE(self.schedule)

    def grid(self, steps: int) -> TimeGrid:
        """Equal steps."""
        return TimeGrid.uniform(self.schedule.horizon, steps)

    def spread(self, t: Tensor) -> Tensor:
        """S, the variance of p_s at s = 1 − t."""
        alpha = self.schedule.alpha(t)
        return 1 + alpha**2 * (self.variance - 1)

    def score(self, t: Tensor, x: Tensor, context: object = None) -> Tensor:
        """∇log p_s(x)."""
        center = self.schedule.alpha(t) * self.mean
        return -(x - like(center, x)) / like(self.spread(t), x)

    @property
    def start(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of p_1."""
        t = torch.zeros(1, dtype=torch.float64)
        return self.schedule.alpha(t) * self.mean, self.spread(t)

    def end(
        self,
        solver: Solver,
        steps: int,
        correction: Correction | None = None,
        start: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[float, float]:
        """Exact mean and variance after all steps of the scheme, actions score + correction.

        Steps are affine in x, so two points and one unit of noise tell all about them.
        """
        mean, variance = start or self.start
        grid, zero = self.grid(steps), torch.zeros(1, dtype=torch.float64)
        for begin, end in grid.intervals():
            t0, t1 = zero + begin, zero + end

            def step(x: Tensor, t0: Tensor = t0, t1: Tensor = t1) -> Tensor:
                a = self.score(t0, x) + (0 if correction is None else correction(t0, x))
                return solver.mean(self.sde, t0, t1, x, a, None)

            slope = step(mean + 1) - step(mean)
            root = solver.noise(self.sde, t0, t1, mean, mean, (t1 - t0).sqrt())
            mean, variance = step(mean), slope**2 * variance + root**2
        return float(mean), float(variance)
