"""The exploratory linear-quadratic problem of the average reward."""

from dataclasses import dataclass

import torch

from ctcontrol._problem import ControlProblem
from ctcontrol.exact.exploratory_lq._dynamics import QuadraticValue
from ctcontrol.exact.exploratory_lq._system import AnyPolicy, ControlledVolatilityLQ


@dataclass(frozen=True, kw_only=True)
class ErgodicLQ(ControlledVolatilityLQ):
    """lim E[∫₀ᵀ(r + λ·entropy)dt]/T, maximized over Gaussian policies u ~ N(−Kx + k, v).

    Relative value ½k₂x² + k₁x and average reward solve the equations of the discounted problem
    at ρ = 0. (Jia and Zhou 2022, 2111.11232; docs/theory, exploratory linear-quadratic problems.)
    """

    @classmethod
    def jia_zhou(cls) -> "ErgodicLQ":
        """A = −1, B = C = 0, D = 1, M = N = Q = 2, R = P = 1, λ = 0.1, X_0 = 0 (2111.11232).

        The action moves the noise alone. Optimal: N(−0.3542x − 0.7085, 0.03542), average reward
        0.6334; 0.7085 without exploration.
        """
        return cls(A=-1, B=0, C=0, D=1, M=2, N=2, R=1, P=1, Q=2, temperature=0.1)

    @property
    def _discount(self) -> float:
        return 0.0

    def average_reward(self, policy: AnyPolicy) -> float:
        """Reward and entropy bonus per unit of time, in the long run."""
        return self.coefficients(policy).rate

    def optimal_average_reward(self) -> float:
        """The largest of them."""
        return self.average_reward(self.optimal_policy())

    def exploration_cost(self) -> float:
        """λ/2: what the randomness of the entropy-regularized optimum loses per unit of time."""
        return self.temperature / 2

    def value(self, policy: AnyPolicy, horizon: float) -> QuadraticValue:
        """½k₂x² + k₁x + average reward · (horizon − t): the value of `problem`, exactly."""
        k = self.coefficients(policy)
        return QuadraticValue(k.k2, k.k1, 0.0, k.rate, horizon)

    def problem(
        self,
        horizon: float,
        *,
        tail: AnyPolicy | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> ControlProblem:
        """A stretch [0, horizon] that ends with the relative value of `tail` (or the optimum).

        The return of `tail` itself is E[½k₂X_0² + k₁X_0] + average reward · horizon.
        """
        policy = self.optimal_policy() if tail is None else tail
        return self._problem(horizon, self.value(policy, horizon), dtype)
