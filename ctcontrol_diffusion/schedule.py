"""Noise schedules, and THE ONLY PLACE THAT KNOWS s = 1 − t.

Networks are trained on the diffusion clock s (0 data, 1 noise). Everything else runs on control
time t = 1 − s (0 noise, horizon sample).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ctcontrol import CtcontrolError, Scalar, Time, TimeGrid, check_positive

LEAST_SIGNAL = 2.0**-12
"""α where a schedule ends in pure noise, instead of 0: there the score would be −x whatever the
network says. The square is what the sigma-type schedulers of diffusers put for ᾱ = 0."""


class Schedule(ABC):
    """A forward process X_s = α_s X_0 + σ_s ε, read in control time.

    It solves dX = (d log α/ds) X ds + √β dB with β = dσ²/ds − 2 (d log α/ds) σ².
    """

    floor: float

    @abstractmethod
    def alpha(self, t: Time) -> Scalar:
        """α, the share of the data that is left."""

    @abstractmethod
    def variance(self, t: Time) -> Scalar:
        """σ²."""

    @abstractmethod
    def sigma(self, t: Time) -> Scalar:
        """σ."""

    @abstractmethod
    def growth(self, t: Time) -> Scalar:
        """d log α/dt = −d log α/ds, per unit of time."""

    @abstractmethod
    def beta(self, t: Time) -> Scalar:
        """β, squared volatility of the forward process, per unit of time."""

    @abstractmethod
    def added(self, t0: Time, t1: Time) -> Scalar:
        """σ² − (α/α')²σ'² ≥ 0, the noise that the forward process adds from t1 back to t0."""

    @abstractmethod
    def network_time(self, t: Time) -> Scalar:
        """The time that the network was trained on, not rounded."""

    def timestep(self, t: Time) -> Scalar:
        """`network_time`, made whole where it is so up to rounding: a discrete model's own times.

        Between two of these the network is asked at the number in between. Time embeddings of
        diffusers are functions of a real number, so that it interpolates.
        """
        time = self.network_time(t)
        whole = time.round()
        return torch.where((time - whole).abs() < 2e-3, whole, time)

    @abstractmethod
    def grid(self, steps: int) -> TimeGrid:
        """About equal steps from noise to the horizon, at times the network was trained on."""

    @property
    def horizon(self) -> float:
        """The control time at which sampling stops."""
        return 1.0 - self.floor


@dataclass(frozen=True, eq=False)
class NoiseSchedule(Schedule):
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
        _check_floor(self.floor)
        object.__setattr__(self, "log_alpha_bar", table)

    @classmethod
    def from_alphas_cumprod(cls, alphas: Tensor | Sequence[float], floor: float) -> "NoiseSchedule":
        """From ᾱ_1 … ᾱ_n of a discrete model."""
        table = torch.as_tensor(alphas, dtype=torch.float64).log()
        return cls(torch.cat([table.new_zeros(1), table]), floor)

    @classmethod
    def from_diffusers(cls, scheduler: Any, floor: float) -> "NoiseSchedule":
        """From a diffusers scheduler with `alphas_cumprod` (DDPM, DDIM, …).

        Zero terminal SNR (ᾱ_n = 0) becomes α_n = `LEAST_SIGNAL`, or half of ᾱ_{n−1} where that is
        less, if the network predicts v or the image; a network that predicts the noise knows
        nothing of the image there.

        Raises:
            CtcontrolError: no such table, or one that `NoiseSchedule` refuses.
        """
        alphas = getattr(scheduler, "alphas_cumprod", None)
        if alphas is None:
            raise CtcontrolError(
                f"{type(scheduler).__name__} has no alphas_cumprod; give a DDPM or DDIM scheduler"
            )
        config = scheduler.config
        if config.get("rescale_betas_zero_snr") and config["prediction_type"] != "epsilon":
            alphas = [*alphas[:-1], min(LEAST_SIGNAL**2, 0.5 * float(alphas[-2]))]
        elif config.get("rescale_betas_zero_snr"):
            alphas = [*alphas[:-1], 0.0]  # some schedulers hide it behind a small number
        return cls.from_alphas_cumprod(alphas, floor)

    def _position(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Index below and position of s(t) in the table; a node is the end of its step."""
        position = (1.0 - t.double()).clamp(0, 1) * (len(self.log_alpha_bar) - 1)
        return (position.ceil().long() - 1).clamp_min(0), position

    def _log_alpha_bar(self, t: Tensor) -> Tensor:
        below, position = self._position(t)
        table = self.log_alpha_bar.to(t.device)
        return torch.lerp(table[below], table[below + 1], position - below)

    def alpha(self, t: Time) -> Scalar:
        return (0.5 * self._log_alpha_bar(t)).exp().to(t.dtype)

    def variance(self, t: Time) -> Scalar:
        """σ² = 1 − α²."""
        return (-torch.expm1(self._log_alpha_bar(t))).to(t.dtype)

    def sigma(self, t: Time) -> Scalar:
        return (-torch.expm1(self._log_alpha_bar(t))).sqrt().to(t.dtype)

    def beta(self, t: Time) -> Scalar:
        """β = −d log ᾱ/ds = g², per unit of time."""
        # 1 − k/n is rounded; read a little later, or the rounding picks the piece at some nodes.
        below, _ = self._position(t.double() + 1e-7)
        table = self.log_alpha_bar.to(t.device)
        return ((table[below] - table[below + 1]) * (len(table) - 1)).to(t.dtype)

    def growth(self, t: Time) -> Scalar:
        return 0.5 * self.beta(t)

    def added(self, t0: Time, t1: Time) -> Scalar:
        """1 − (α/α')², without cancellation: (σ² − σ'²)/α'²."""
        gap = self.variance(t0) - self.variance(t1)
        return (gap / self.alpha(t1) ** 2).clamp_min(0)

    def network_time(self, t: Time) -> Scalar:
        """The time a discrete network was trained on, s n − 1 ∈ [0, n − 1], not rounded."""
        return (self._position(t)[1] - 1).clamp_min(0).to(t.dtype)

    def grid(self, steps: int) -> TimeGrid:
        """Nodes at discrete times of the model, as equal as these allow; the last may lie between.

        Raises:
            CtcontrolError: more steps than the model has discrete times above the floor.
        """
        n = len(self.log_alpha_bar) - 1
        equal = torch.linspace(n, n * self.floor, steps + 1, dtype=torch.float64)
        nodes = [*equal.round()[:-1].tolist(), n * self.floor]
        if any(later >= node for node, later in pairwise(nodes)):
            raise CtcontrolError(
                f"{steps} steps are more than the {n} discrete times of the model can tell apart; "
                "take fewer"
            )
        return TimeGrid.from_times([1.0 - node / n for node in nodes])


@dataclass(frozen=True, eq=False)
class FlowSchedule(Schedule):
    """The straight path of flow matching, X_s = (1 − s) X_0 + s ε, its clock shifted.

    s = shift u/(1 + (shift − 1) u) at u = 1 − t: equal steps in control time are those that
    diffusers calls sigmas, shifted (Esser et al. 2024, 2403.03206, eq. 23). β = 2s/(1 − s) ds/du
    is infinite at pure noise, where α is kept at `LEAST_SIGNAL`.

    Attributes:
        shift: > 0; 1 is no shift.
        floor: the smallest u, as in `NoiseSchedule`.
        train_steps: n; the network is asked at the time n s.

    Raises:
        CtcontrolError: shift not positive, or floor outside [0, 1).
    """

    shift: float
    floor: float
    train_steps: int = 1000

    def __post_init__(self) -> None:
        check_positive("shift", self.shift)
        _check_floor(self.floor)

    @classmethod
    def from_diffusers(cls, scheduler: Any, floor: float) -> "FlowSchedule":
        """From a `FlowMatchEulerDiscreteScheduler` or another one with flow sigmas.

        Raises:
            CtcontrolError: its shift depends on the size of the image.
        """
        config = scheduler.config
        if config.get("use_dynamic_shifting"):
            raise CtcontrolError(
                f"the {type(scheduler).__name__} shifts its clock by the size of the image "
                "(use_dynamic_shifting), which a schedule cannot know; set shift to a number"
            )
        shift = config.get("shift", config.get("flow_shift", 1.0))
        return cls(float(shift), floor, config["num_train_timesteps"])

    def _noise(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """s and ds/du in float64."""
        u = (1.0 - t.double()).clamp(0, 1)
        scale = 1 + (self.shift - 1) * u
        s = (self.shift * u / scale).clamp_max(1 - LEAST_SIGNAL)
        return s, self.shift / scale**2

    def alpha(self, t: Time) -> Scalar:
        return (1 - self._noise(t)[0]).to(t.dtype)

    def variance(self, t: Time) -> Scalar:
        return self._noise(t)[0].square().to(t.dtype)

    def sigma(self, t: Time) -> Scalar:
        return self._noise(t)[0].to(t.dtype)

    def growth(self, t: Time) -> Scalar:
        s, rate = self._noise(t)
        return (rate / (1 - s)).to(t.dtype)

    def beta(self, t: Time) -> Scalar:
        s, rate = self._noise(t)
        return (2 * s / (1 - s) * rate).to(t.dtype)

    def added(self, t0: Time, t1: Time) -> Scalar:
        (s0, _), (s1, _) = self._noise(t0), self._noise(t1)
        kept = (1 - s0) / (1 - s1)
        return ((s0 - kept * s1) * (s0 + kept * s1)).to(t0.dtype)

    def network_time(self, t: Time) -> Scalar:
        """n s ∈ [0, n]."""
        u = (1.0 - t.double()).clamp(0, 1)
        return (self.train_steps * self.shift * u / (1 + (self.shift - 1) * u)).to(t.dtype)

    def timestep(self, t: Time) -> Scalar:
        """`network_time`: these networks are trained at all real times."""
        return self.network_time(t)

    def grid(self, steps: int) -> TimeGrid:
        return TimeGrid.uniform(self.horizon, steps)


def schedule_of(scheduler: Any, floor: float) -> Schedule:
    """The forward process that a diffusers scheduler was made for.

    Raises:
        CtcontrolError: it is neither of the DDPM kind nor of flow matching.
    """
    config = scheduler.config
    if "FlowMatch" in type(scheduler).__name__ or config.get("use_flow_sigmas"):
        return FlowSchedule.from_diffusers(scheduler, floor)
    return NoiseSchedule.from_diffusers(scheduler, floor)


def _check_floor(floor: float) -> None:
    if not 0 <= floor < 1:
        raise CtcontrolError(f"floor must lie in [0, 1), got {floor}")
