"""Steps of diffusion samplers, written in the score."""

from abc import abstractmethod
from dataclasses import dataclass

import torch

from ctcontrol import (
    Action,
    Context,
    ControlledSDE,
    CtcontrolError,
    ElementwiseActionSDE,
    Noise,
    Scalar,
    Solver,
    State,
    Time,
    UncontrolledVolatilitySDE,
    check_nonnegative,
    inner,
    like,
)
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import LEAST_SIGNAL, FlowSchedule, NoiseSchedule, Schedule


class AffineSampler(Solver):
    """x' = decay · x + gain · a + std · ξ with numbers that depend on the two times alone.

    All one-step samplers of a `ReverseSDE` are of this kind; they differ in what they hold still
    over a step. The KL of two scores is ½(gain/std)²|a − reference|², exact for the chain at any
    step size.
    """

    @abstractmethod
    def coefficients(self, schedule: Schedule, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        """(decay, gain, std) of x' = decay · x + gain · a + std · ξ, each (batch,)."""

    def mean(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, context: Context
    ) -> State:
        decay, gain, _ = self._of(sde, t0, t1)
        return like(decay, x) * x + like(gain, a) * a

    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        _, _, std = self._of(sde, t0, t1)
        return like(std / (t1 - t0).sqrt(), dw) * dw

    def driving(
        self, sde: UncontrolledVolatilitySDE, t0: Time, t1: Time, x: State, a: Action, v: State
    ) -> Noise:
        _, _, std = self._noisy(sde, t0, t1)
        return like((t1 - t0).sqrt() / std, v) * v

    def step_kl(
        self,
        sde: UncontrolledVolatilitySDE,
        t0: Time,
        t1: Time,
        x: State,
        a: Action,
        reference: Action,
        context: Context,
    ) -> Scalar:
        _, gain, std = self._noisy(sde, t0, t1)
        gap = a - reference
        return 0.5 * (gain / std) ** 2 * inner(gap, gap)

    def absorbing_std(self, sde: ElementwiseActionSDE, t0: Time, t1: Time) -> Scalar:
        _, gain, std = self._of(sde, t0, t1)
        return std / gain

    def _of(self, sde: ControlledSDE, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        if not isinstance(sde, ReverseSDE):
            raise TypeError(
                f"{type(self).__name__} steps a ReverseSDE, got {type(sde).__name__}; use "
                "EulerMaruyama for others"
            )
        return self.coefficients(sde.schedule, t0, t1)

    def _noisy(self, sde: ControlledSDE, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        decay, gain, std = self._of(sde, t0, t1)
        if not bool((std > 0).all()):
            raise CtcontrolError(
                f"{self} has a step without noise, and likelihood ratios and path KL are infinite "
                "there; use noise (for DDIM: eta > 0) and a floor > 0"
            )
        return decay, gain, std


@dataclass(frozen=True)
class DDIM(AffineSampler):
    """x' = α' x̂₀ + √(σ'² − ς²) ε + ς ξ with x̂₀ = (x + σ² a)/α, ε = −σ a (Song, Meng, Ermon 2021).

    ς² = η² (σ'²/σ²)(σ² − σ'²α²/α'²), the last factor being 1 − α²/α'² where α² + σ² = 1. η = 1 is
    the ancestral step (`DDPMScheduler`; in other coordinates `EulerAncestralDiscreteScheduler`),
    η = 0 the ODE (`EulerDiscreteScheduler`). At any step size the marginals are exact for data at
    one point, and for Gaussian data their means; what coarse steps lack is variance, by O(Δ).

    Attributes:
        eta: η ∈ [0, 1], share of the noise.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if check_nonnegative("eta", self.eta) > 1:
            raise CtcontrolError(f"eta must lie in [0, 1], got {self.eta}")

    def coefficients(self, schedule: Schedule, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        a0, a1 = schedule.alpha(t0), schedule.alpha(t1)
        v0, v1 = schedule.variance(t0), schedule.variance(t1)
        # 1 − (α/α')² is `added` to rounding; written out so that older runs go on bit for bit
        vp = isinstance(schedule, NoiseSchedule)
        added = 1 - (a0 / a1) ** 2 if vp else schedule.added(t0, t1)
        std_squared = self.eta**2 * (v1 / v0) * added
        direction = (v1 - std_squared).clamp_min(0).sqrt()
        gain = a1 * v0 / a0 - direction * v0.sqrt()
        return a1 / a0, gain, std_squared.clamp_min(0).sqrt()


@dataclass(frozen=True)
class ExponentialVP(AffineSampler):
    """x' = (x + q a)/r + ς ξ, r = α/α', q = σ² − r²σ'², ς² = q (σ'² + α'²v)/(σ² + α²v).

    The exponential integrator that holds the denoised image m̂ still over a step, where a = −(x −
    αm̂)/(σ² + α²v), and solves the rest, linear in x, exactly. So it is exact in law, at any step
    size, for Gaussian data of variance v and any mean (docs/theory, reverse SDE). Elsewhere the
    order is weak 1. v = 0 holds x̂₀ and is the ancestral step `DDIM(1)` (SDE-DPM-Solver++ of
    order one; Lu et al. 2022, 2211.01095); with the variance of the data, few steps lose none of
    it.

    Attributes:
        data_variance: v ≥ 0, of the data, per coordinate.
    """

    data_variance: float = 0.0

    def __post_init__(self) -> None:
        check_nonnegative("data_variance", self.data_variance)

    def coefficients(self, schedule: Schedule, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        a0, a1 = schedule.alpha(t0), schedule.alpha(t1)
        spread = [
            schedule.variance(t) + self.data_variance * schedule.alpha(t) ** 2 for t in (t0, t1)
        ]
        kept = a0 / a1
        added = schedule.added(t0, t1)
        return 1 / kept, added / kept, (added * spread[1] / spread[0]).sqrt()


@dataclass(frozen=True)
class ExponentialNoiseVP(AffineSampler):
    """x' = x/r + 2σ(σ/r − σ')a + ς ξ with r = α/α', ς² = σ²/r² − σ'².

    The exponential integrator that holds the predicted noise ε = −σa still over a step and solves
    the rest, linear in x, exactly (SDE-DPM-Solver of order one; Lu et al. 2022, 2211.01095).
    Weak order 1. Of all choices it adds the most noise; `ExponentialVP` is better in few steps.
    """

    def coefficients(self, schedule: Schedule, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        kept = schedule.alpha(t0) / schedule.alpha(t1)
        s0, s1 = schedule.sigma(t0), schedule.sigma(t1)
        std = schedule.added(t0, t1).sqrt() / kept
        return 1 / kept, 2 * s0 * (s0 / kept - s1), std


@dataclass(frozen=True)
class FlowSDE(AffineSampler):
    """x' = x + [−v + ½ς² a] Δ + ς √Δ ξ with −v = (x + σ a)/α, Δ = σ − σ', ς² = 2η²σ/(1 − σ).

    The Euler step of flow matching whose noise leaves the marginals as they are, for any η: η = 0
    is `FlowMatchEulerDiscreteScheduler`, η = 1 the reverse SDE of the forward process
    (memoryless), and η = 0.7/√2 ≈ 0.495 the sampler of Flow-GRPO (Liu et al. 2025, 2505.05470),
    whose convention for the first step is kept: at pure noise ς is read at the end of the step.
    Weak order 1. Clocks may be shifted: Δ is in units of the unshifted one.

    Attributes:
        eta: η ≥ 0, share of the noise.

    Raises:
        CtcontrolError: η negative; at a step, a schedule that is not that of flow matching.
    """

    eta: float = 0.5

    def __post_init__(self) -> None:
        check_nonnegative("eta", self.eta)

    def coefficients(self, schedule: Schedule, t0: Time, t1: Time) -> tuple[Scalar, Scalar, Scalar]:
        if not isinstance(schedule, FlowSchedule):
            raise CtcontrolError(
                "FlowSDE steps flow-matching models; use DDIM, ExponentialVP or EulerMaruyama for "
                f"a {type(schedule).__name__}"
            )
        a0, s0, s1 = schedule.alpha(t0), schedule.sigma(t0), schedule.sigma(t1)
        level = torch.where(a0 <= LEAST_SIGNAL, s1, s0)
        added = 2 * self.eta**2 * level / (1 - level)
        span = s0 - s1
        return 1 + span / a0, span * (s0 / a0 + 0.5 * added), (added * span).sqrt()
