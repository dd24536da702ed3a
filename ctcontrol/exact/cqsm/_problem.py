"""The linear-quadratic problem on states and actions together."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ctcontrol._checks import CtcontrolError, check_positive
from ctcontrol.exact.lq import LinearGaussianLaw, LQProblem, Quadratic, StationaryLQ
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array, as_matrix, as_semidefinite


@dataclass(frozen=True, eq=False, init=False)
class CQSM:
    """dX = (AX + Ba)dt + σdW and da = Ψdt + σ_a dW^a, with the drift Ψ(x, a) to be chosen:

    max E∫₀^∞ e^{−ρt}(−XᵀQX − aᵀRa − ½λ|Ψ|²)dt.

    On z = (x, a) this is linear-quadratic with input Ψ. For Ψ = −Kz + k the martingale condition
    of the action-value function Q^Ψ is a Lyapunov equation, and Ψ* = λ⁻¹∂_aQ* a Riccati
    equation. (Continuous Q-score matching, arXiv 2510.17122; docs/theory, linear-quadratic
    problems.)

    Args:
        A: (d, d), per unit of time.
        B: (d, m), drift per unit of action, per unit of time.
        Q: (d, d) symmetric positive semidefinite, cost per unit of time.
        R: (m, m) symmetric positive semidefinite, cost per unit of time.
        volatility: σ, (d, k); a number is that multiple of I.
        action_volatility: σ_a, (m, k'); a number is that multiple of I.
        drift_cost: λ > 0.
        discount: ρ > 0, per unit of time.
        initial_mean: E z_0, (d + m,).
        initial_covariance: Cov z_0, (d + m, d + m); a number is that multiple of I.

    Raises:
        CtcontrolError: shapes that do not fit, costs that are not semidefinite, λ or ρ not > 0.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    volatility: Array
    action_volatility: Array
    drift_cost: float
    discount: float
    initial_mean: Array
    initial_covariance: Array

    def __init__(
        self,
        *,
        A: Numbers,
        B: Numbers,
        Q: Numbers,
        R: Numbers,
        volatility: Numbers,
        action_volatility: Numbers,
        drift_cost: float,
        discount: float,
        initial_mean: Numbers,
        initial_covariance: Numbers = 0.0,
    ) -> None:
        B_ = as_array("B", B)
        if B_.ndim != 2 or 0 in B_.shape:
            raise CtcontrolError(f"B must be a matrix (states, actions), got shape {B_.shape}")
        d, m = B_.shape
        fields = {
            "A": as_array("A", A, (d, d)),
            "B": B_,
            "Q": as_semidefinite("Q", Q, d),
            "R": as_semidefinite("R", R, m),
            "volatility": as_matrix("volatility", volatility, d),
            "action_volatility": as_matrix("action_volatility", action_volatility, m),
            "drift_cost": check_positive("drift_cost", drift_cost),
            "discount": check_positive("discount", discount),
            "initial_mean": as_array("initial_mean", initial_mean, (d + m,)),
            "initial_covariance": as_semidefinite(
                "initial_covariance",
                as_matrix("initial_covariance", initial_covariance, d + m),
                d + m,
            ),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def states(self) -> int:
        """d."""
        return self.B.shape[0]

    @property
    def actions(self) -> int:
        """m."""
        return self.B.shape[1]

    def augmented(self, horizon: float) -> LQProblem:
        """The same up to a horizon: z = (x, a) is the state, Ψ the action; nothing paid at T.

        Its `problem()` is what the simulator takes, its other methods answer exactly.
        """
        (d, m), size = self.B.shape, self.states + self.actions
        A, Q = np.zeros((size, size)), np.zeros((size, size))
        A[:d, :d], A[:d, d:] = self.A, self.B
        Q[:d, :d], Q[d:, d:] = self.Q, self.R
        first, second = self.volatility, self.action_volatility
        noise = np.zeros((size, first.shape[1] + second.shape[1]))
        noise[:d, : first.shape[1]], noise[d:, first.shape[1] :] = first, second
        return LQProblem(
            A=A,
            B=np.vstack([np.zeros((d, m)), np.eye(m)]),
            Q=Q,
            R=0.5 * self.drift_cost * np.eye(m),
            G=np.zeros((size, size)),
            volatility=noise,
            horizon=horizon,
            initial_mean=self.initial_mean,
            initial_covariance=self.initial_covariance,
            discount=self.discount,
        )

    @cached_property
    def stationary(self) -> StationaryLQ:
        """The discounted problem without a horizon, on z."""
        return StationaryLQ(self.augmented(1.0))

    def optimal_drift(self) -> LinearGaussianLaw:
        """Ψ*(z) = λ⁻¹∂_aQ*(z) = −(2/λ)[Pz]_a with P from the algebraic Riccati equation.

        Raises:
            CtcontrolError: no drift has a finite return.
        """
        return self.stationary.optimal_policy()

    def q(self, drift: LinearGaussianLaw) -> Quadratic:
        """Q^Ψ(x, a) = −zᵀPz − 2pᵀz − c, of a drift Ψ = −Kz + k that is constant in time.

        For the optimal drift c = tr(ΞP)/ρ and p = 0.

        Raises:
            CtcontrolError: other shapes, or a drift without a finite return.
        """
        self._check(drift)
        return self.stationary.value(drift)

    def expected_return(self, drift: LinearGaussianLaw) -> float:
        """E Q^Ψ(X_0, a_0)."""
        return self.q(drift).expectation(self.initial_mean, self.initial_covariance)

    def improved(self, drift: LinearGaussianLaw) -> LinearGaussianLaw:
        """Ψ′ = λ⁻¹∂_aQ^Ψ: policy iteration, which is Newton's method for the Riccati equation.

        It gains E∫e^{−ρt}½λ|Ψ′ − Ψ|²dt along Ψ′.
        """
        q, d = self.q(drift), self.states
        return LinearGaussianLaw(2 / self.drift_cost * q.P[d:], -2 / self.drift_cost * q.p[d:])

    def _check(self, drift: LinearGaussianLaw) -> None:
        if drift.covariance(0.0).any():
            raise CtcontrolError(
                "the drift Ψ is deterministic here, but its covariance is not zero; the noise of "
                "the action is action_volatility"
            )
