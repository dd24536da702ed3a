"""Test functions: what the increments of the martingale are held against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ctcontrol._along import rows_along
from ctcontrol._checks import check_nonnegative
from ctcontrol._trajectory import Trajectory
from ctcontrol._typing import Context, State, Time
from ctcontrol._value import Value
from ctcontrol.critics._linear_value import features_along


class TestFunction(Protocol):
    """An adapted process ξ: for the value of the policy E ∫ ξ_t dM_t = 0, whatever ξ is.

    (Jia and Zhou 2022, 2108.06655.) Adapted means that ξ_k is made of what is known at t_k.
    """

    def __call__(self, value: Value, trajectory: Trajectory) -> Tensor:
        """ξ_k at the nodes 0 … N − 1, (steps, batch, number of test functions)."""
        ...


@dataclass(frozen=True)
class ParameterGradient:
    """ξ = ∂V/∂θ = φ: the test function of TD(0)."""

    def __call__(self, value: Value, trajectory: Trajectory) -> Tensor:
        return features_along(value, trajectory)[:-1]


@dataclass(frozen=True)
class EligibilityTrace:
    """ξ_k = Σ_{i≤k} e^{−decay(t_k − t_i)} φ_i Δ_i, for ∫₀ᵗ e^{−decay(t − u)} ∂V/∂θ du: TD(λ).

    Orthogonality to it *is* the least-squares fit of the targets of `LambdaReturnFit`, each row
    weighed by e^{−ρt_i}Δ_i, at its fixed point: the backward view of the forward view. decay = 0
    is the martingale loss, decay → ∞ is TD(0).

    Attributes:
        decay: ≥ 0, per unit of time.
    """

    decay: float

    def __post_init__(self) -> None:
        check_nonnegative("decay", self.decay)

    def __call__(self, value: Value, trajectory: Trajectory) -> Tensor:
        trace = features_along(value, trajectory)[:-1] * trajectory.lengths[..., None]
        shrink = (-self.decay * trajectory.grid.lengths).exp().tolist()
        for k in range(1, len(trace)):
            trace[k] += shrink[k - 1] * trace[k - 1]
        return trace


@dataclass(frozen=True)
class StateFunctions:
    """ξ_k = function(t_k, X_k, context): any functions of the present state.

    Attributes:
        function: (t, x, context) -> (batch, number of test functions).
    """

    function: Callable[[Time, State, Context], Tensor]

    def __call__(self, value: Value, trajectory: Trajectory) -> Tensor:
        return rows_along(self.function, trajectory)
