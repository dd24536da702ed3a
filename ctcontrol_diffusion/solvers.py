"""Steps of diffusion samplers, written in the score."""

from dataclasses import dataclass

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
from ctcontrol_diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class DDIM(Solver):
    """x' = α' x̂₀ + √(σ'² − ς²) ε + ς ξ with x̂₀ = (x + σ² a)/α, ε = −σ a (Song, Meng, Ermon 2021).

    ς² = η² (σ'²/σ²)(1 − α²/α'²). η = 1 is the ancestral DDPM step, η = 0 the ODE. At any
    step size the marginals are exact for data at one point, and for Gaussian data their means;
    what coarse steps lack is variance, by O(Δ).

    Attributes:
        eta: η ∈ [0, 1], share of the noise.
    """

    eta: float = 1.0

    def __post_init__(self) -> None:
        if check_nonnegative("eta", self.eta) > 1:
            raise CtcontrolError(f"eta must lie in [0, 1], got {self.eta}")

    def coefficients(
        self, schedule: NoiseSchedule, t0: Time, t1: Time
    ) -> tuple[Scalar, Scalar, Scalar]:
        """(decay, gain, std) of x' = decay · x + gain · a + std · ξ, each (batch,)."""
        a0, a1 = schedule.alpha(t0), schedule.alpha(t1)
        v0, v1 = schedule.variance(t0), schedule.variance(t1)
        std_squared = self.eta**2 * (v1 / v0) * (1 - (a0 / a1) ** 2)
        direction = (v1 - std_squared).clamp_min(0).sqrt()
        gain = a1 * v0 / a0 - direction * v0.sqrt()
        return a1 / a0, gain, std_squared.clamp_min(0).sqrt()

    def mean(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, context: Context
    ) -> State:
        decay, gain, _ = self.coefficients(_schedule(sde), t0, t1)
        return like(decay, x) * x + like(gain, a) * a

    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        _, _, std = self.coefficients(_schedule(sde), t0, t1)
        return like(std / (t1 - t0).sqrt(), dw) * dw

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
        """½ (gain/std)² |a − reference|²: the KL of the chain itself, at any step size."""
        _, gain, std = self.coefficients(_schedule(sde), t0, t1)
        if not bool((std > 0).all()):
            raise CtcontrolError(
                f"DDIM with eta = {self.eta:g} has a step without noise, and path KL is infinite "
                "there; use eta > 0 and a floor > 0"
            )
        gap = a - reference
        return 0.5 * (gain / std) ** 2 * inner(gap, gap)

    def absorbing_std(self, sde: ElementwiseActionSDE, t0: Time, t1: Time) -> Scalar:
        _, gain, std = self.coefficients(_schedule(sde), t0, t1)
        return std / gain


def _schedule(sde: ControlledSDE) -> NoiseSchedule:
    if not isinstance(sde, ReverseSDE):
        raise TypeError(
            f"DDIM steps a ReverseSDE, got {type(sde).__name__}; use EulerMaruyama for others"
        )
    return sde.schedule
