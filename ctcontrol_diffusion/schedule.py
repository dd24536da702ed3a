"""Noise schedules, and THE ONLY PLACE THAT KNOWS s = 1 − t.

Networks are trained on the diffusion clock s (0 data, 1 noise). Everything else runs on control
time t = 1 − s (0 noise, horizon sample).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctcontrol import CtcontrolError, Scalar, Time


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A variance-preserving forward process X_s = α_s X_0 + σ_s ε with α_s² + σ_s² = 1.

    The table of a discrete model with n steps is read at s = k/n and log ᾱ is linear between, so
    β(s) = −d log ᾱ/ds is piecewise constant and every discrete time is met exactly.

    Attributes:
        log_alpha_bar: (n + 1,), float64; log ᾱ at s = 0, 1/n, …, 1; starts at 0 and decreases.
        floor: the smallest s, where sampling stops; > 0 keeps the noise of the last step, and so
            every likelihood ratio and KL, finite.

    Raises:
        CtcontrolError: the table does not start at 0 and decrease, ends at −∞ (no signal left),
            or floor outside [0, 1).
    """

    log_alpha_bar: Tensor
    floor: float

    def __post_init__(self) -> None:
        table = self.log_alpha_bar.double()
        if len(table) < 2 or table[0] != 0 or not bool((table.diff() < 0).all()):
            raise CtcontrolError(
                "log ᾱ must start at 0 and strictly decrease, got "
                f"{[round(v, 4) for v in table[:3].tolist()]} …; is this a DDPM schedule?"
            )
        if not bool(table.isfinite().all()):
            raise CtcontrolError(
                "ᾱ reaches 0 at the end of the schedule (zero terminal SNR), where a denoised "
                "image cannot be formed; use a schedule that keeps some signal"
            )
        if not 0 <= self.floor < 1:
            raise CtcontrolError(f"floor must lie in [0, 1), got {self.floor}")
        object.__setattr__(self, "log_alpha_bar", table)

    @classmethod
    def from_alphas_cumprod(cls, alphas: Tensor | Sequence[float], floor: float) -> "NoiseSchedule":
        """From ᾱ_1 … ᾱ_n of a discrete model."""
        table = torch.as_tensor(alphas, dtype=torch.float64).log()
        return cls(torch.cat([table.new_zeros(1), table]), floor)

    @classmethod
    def from_diffusers(cls, scheduler: Any, floor: float) -> "NoiseSchedule":
        """From a diffusers scheduler with `alphas_cumprod` (DDPM, DDIM, …)."""
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None:
            raise CtcontrolError(
                f"{type(scheduler).__name__} has no alphas_cumprod; give a DDPM or DDIM scheduler"
            )
        return cls.from_alphas_cumprod(alphas, floor)

    @property
    def horizon(self) -> float:
        """The control time at which sampling stops."""
        return 1.0 - self.floor

    def _position(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Index below and position of s(t) in the table; a node is the end of its step."""
        position = (1.0 - t.double()).clamp(0, 1) * (len(self.log_alpha_bar) - 1)
        return (position.ceil().long() - 1).clamp_min(0), position

    def _log_alpha_bar(self, t: Tensor) -> Tensor:
        below, position = self._position(t)
        table = self.log_alpha_bar.to(t.device)
        return torch.lerp(table[below], table[below + 1], position - below)

    def alpha(self, t: Time) -> Scalar:
        """α, the share of the data that is left."""
        return (0.5 * self._log_alpha_bar(t)).exp().to(t.dtype)

    def variance(self, t: Time) -> Scalar:
        """σ² = 1 − α²."""
        return (-torch.expm1(self._log_alpha_bar(t))).to(t.dtype)

    def sigma(self, t: Time) -> Scalar:
        """σ."""
        return (-torch.expm1(self._log_alpha_bar(t))).sqrt().to(t.dtype)

    def beta(self, t: Time) -> Scalar:
        """β = −d log ᾱ/ds = g², per unit of time."""
        # 1 − k/n is rounded; read a little later, or the rounding picks the piece at some nodes.
        below, _ = self._position(t.double() + 1e-7)
        table = self.log_alpha_bar.to(t.device)
        return ((table[below] - table[below + 1]) * (len(table) - 1)).to(t.dtype)

    def network_time(self, t: Time) -> Scalar:
        """The time a discrete network was trained on, s n − 1 ∈ [0, n − 1], not rounded."""
        return (self._position(t)[1] - 1).clamp_min(0).to(t.dtype)
