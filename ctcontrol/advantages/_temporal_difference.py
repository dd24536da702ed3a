"""From differences of the value function along the path."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._along import residuals, values_along
from ctcontrol._checks import check_nonnegative
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory, discounted_to_go
from ctcontrol._value import Value
from ctcontrol.advantages._base import needed
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class TemporalDifferenceAdvantage:
    """(e^{−ρΔ} V(t_{k+1}, X_{k+1}) − V(t_k, X_k) + gain_k)/Δ_k.

    Zhao, Tang, Yao 2023 (2305.18901), and V(x_{k+1}) − V(x_k) of Score as Action. No gradient
    of V is needed. With the exact V of the *chain* and a noise-absorbing policy it is unbiased
    at any step size.
    """

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        v = values_along(needed(value, self), trajectory)
        return residuals(v, trajectory) / trajectory.lengths


@dataclass(frozen=True)
class GeneralizedAdvantage:
    """Σ_{j≥k} e^{−(ρ + decay)(t_j − t_k)} δ_j/Δ_k, δ the temporal differences: GAE(λ) in time.

    The weight λ of Schulman et al. 2016 (1506.02438) is per step and changes its meaning with
    the grid; here λ = e^{−decay·Δ} is per unit of time, so that refining the grid refines the
    same estimator. decay = 0 is `MonteCarloAdvantage` with V as baseline, decay → ∞ is
    `TemporalDifferenceAdvantage`. Errors of V count only over times about 1/decay.

    Attributes:
        decay: ≥ 0, per unit of time.

    Raises:
        CtcontrolError: a decay that is negative, or not finite (then use
            `TemporalDifferenceAdvantage`).
    """

    decay: float

    def __post_init__(self) -> None:
        check_nonnegative("decay", self.decay)

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        delta = residuals(values_along(needed(value, self), trajectory), trajectory)
        rate = trajectory.discount + self.decay
        return discounted_to_go(delta, 0.0, trajectory.grid, rate) / trajectory.lengths
