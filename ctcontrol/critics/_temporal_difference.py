"""Targets that lean on the value function itself, held fixed."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._along import residuals, values_along
from ctcontrol._checks import check_nonnegative
from ctcontrol._trajectory import Trajectory, discounted_to_go
from ctcontrol._value import Value
from ctcontrol.critics._base import Critic


@dataclass(frozen=True, kw_only=True)
class TemporalDifferenceFit(Critic):
    """Target = gain_k + e^{−ρΔ} V(t_{k+1}, X_{k+1}) with V held fixed: semi-gradient TD(0)."""

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        v = values_along(value, trajectory)
        return v[:-1] + residuals(v, trajectory)


@dataclass(frozen=True, kw_only=True)
class LambdaReturnFit(Critic):
    """Target = V_k + Σ_{j≥k} e^{−(ρ + decay)(t_j − t_k)} δ_j with V held fixed: TD(λ).

    λ is per unit of time, λ = e^{−decay·Δ} a step (Jia and Zhou 2022, 2108.06655, with the
    forward view of Sutton and Barto, §12): refining the grid refines the same target. decay = 0
    is `MonteCarloFit`, decay → ∞ `TemporalDifferenceFit`.

    Attributes:
        decay: ≥ 0, per unit of time; errors of V count over times about 1/decay.
    """

    decay: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("decay", self.decay)

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        v = values_along(value, trajectory)
        rate = trajectory.discount + self.decay
        return v[:-1] + discounted_to_go(residuals(v, trajectory), 0.0, trajectory.grid, rate)
