"""The discounted exploratory linear-quadratic problem."""

from dataclasses import dataclass

import torch

from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol.exact.exploratory_lq._dynamics import QuadraticValue
from ctcontrol.exact.exploratory_lq._system import AnyPolicy, ControlledVolatilityLQ


@dataclass(frozen=True, kw_only=True)
class ExploratoryLQ(ControlledVolatilityLQ):
    """J(π) = E∫₀^∞ e^{−ρt}(r + λ·entropy)dt, the exploratory problem of Wang, Zariphopoulou, Zhou.

    V = ½k₂x² + k₁x + k₀ for every Gaussian policy u ~ N(−Kx + k, v); J(π) = E V(X_0).

    Attributes:
        discount: ρ > 0, above the slowest growth rate of E[X²] that a gain can give.
    """

    discount: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.discount <= 0:
            raise CtcontrolError(
                f"without a horizon the discount must be > 0, got {self.discount}; use ErgodicLQ "
                "for the average reward"
            )

    @property
    def _discount(self) -> float:
        return self.discount

    def value(self, policy: AnyPolicy) -> QuadraticValue:
        """V^π, the same at all times, as a `Value`."""
        k = self.coefficients(policy)
        return QuadraticValue(k.k2, k.k1, k.rate / self.discount, 0.0, 0.0)

    def expected_return(self, policy: AnyPolicy) -> float:
        """J(π), in units of reward."""
        k, m = self.coefficients(policy), self.initial_mean
        second = m**2 + self.initial_variance
        return 0.5 * k.k2 * second + k.k1 * m + k.rate / self.discount

    def optimal_return(self) -> float:
        """J* = max J."""
        return self.expected_return(self.optimal_policy())

    def exploration_cost(self) -> float:
        """λ/(2ρ): what the randomness of the entropy-regularized optimum loses of the classical J*.

        It does not depend on the dynamics (Wang, Zariphopoulou, Zhou 2020).
        """
        return self.temperature / (2 * self.discount)

    def problem(
        self,
        horizon: float,
        *,
        tail: AnyPolicy | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> ControlProblem:
        """The same on [0, horizon], with the value of the policy `tail` as the reward at its end.

        So the value of `tail` is that without a horizon at every t. `tail` is the optimum if
        left out: then the optimal policy and J* are those without a horizon too.
        """
        policy = self.optimal_policy() if tail is None else tail
        return self._problem(horizon, self.value(policy), dtype)
