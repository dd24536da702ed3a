"""Targets made of the realised return: unbiased whatever the value function is."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._along import martingale_along, residuals, values_along
from ctcontrol._checks import check_nonnegative
from ctcontrol._trajectory import Trajectory, discounted_to_go
from ctcontrol._value import Value
from ctcontrol.critics._base import Critic


@dataclass(frozen=True, kw_only=True)
class MonteCarloFit(Critic):
    """Target = the realised return to go G_k: the martingale loss (Jia, Zhou 2022, 2108.06655)."""

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        return trajectory.return_to_go()


@dataclass(frozen=True, kw_only=True)
class NoiseAwareFit(Critic):
    """Target = G_k − Σ_{j≥k} e^{−ρ(t_j − t_k)} ⟨∇V_old(t_j, X_j), innovation_j⟩.

    The simulator knows its own noise. What is subtracted is a martingale increment whatever V_old
    is, so the target keeps its mean; as V_old becomes right, G_k minus it tends to V(t_k, X_k)
    and the variance vanishes (docs/theory, noise-aware evaluation). The gradient is that of the
    value before this fit and takes the recorded mean action as constant: any adapted integrand
    is unbiased.

    With a decay > 0 it is the TD(λ) target of `LambdaReturnFit` instead of G_k that loses its
    noise: V_k + Σ_{j≥k} e^{−(ρ + decay)(t_j − t_k)} (δ_j − ⟨∇V, innovation_j⟩), which bootstraps.

    Attributes:
        decay: ≥ 0, per unit of time; 0 takes the return, unbiased for any V.
    """

    decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_nonnegative("decay", self.decay)

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        noise = martingale_along(value, trajectory, through_mean=False)
        grid, rate = trajectory.grid, trajectory.discount + self.decay
        if self.decay == 0:
            return trajectory.return_to_go() - discounted_to_go(noise, 0.0, grid, rate)
        v = values_along(value, trajectory)
        return v[:-1] + discounted_to_go(residuals(v, trajectory) - noise, 0.0, grid, rate)
