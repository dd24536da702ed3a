"""A control problem: it defines J(π) and solves nothing."""

from dataclasses import dataclass

from ctcontrol._checks import check_nonnegative, check_positive
from ctcontrol._regularizer import Regularizer
from ctcontrol._reward import Reward
from ctcontrol._sde import ControlledSDE
from ctcontrol._typing import InitialLaw


@dataclass(frozen=True)
class ControlProblem:
    """J(π) = E[∫₀ᵀ e^{−ρt} (r(t, X, a) dt − w dA) + e^{−ρT} h(X_T)], maximised over π.

    Attributes:
        sde: the dynamics.
        reward: r and h.
        initial: (batch, generator) -> (states, context); fixes dtype and device.
        horizon: T > 0.
        discount: ρ ≥ 0, per unit of time.
        regularizer: the weight w and the amount A of a term that sees the policy's law.
    """

    sde: ControlledSDE
    reward: Reward
    initial: InitialLaw
    horizon: float
    discount: float = 0.0
    regularizer: Regularizer | None = None

    def __post_init__(self) -> None:
        check_positive("horizon", self.horizon)
        check_nonnegative("discount", self.discount)

    @property
    def penalty_weight(self) -> float:
        """w, or 0 without a regularizer."""
        return self.regularizer.weight if self.regularizer else 0.0
