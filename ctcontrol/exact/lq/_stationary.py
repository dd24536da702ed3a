"""Discounted linear-quadratic control without a horizon: algebraic instead of differential."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import LinAlgError, solve_continuous_are, solve_continuous_lyapunov

from ctcontrol._checks import CtcontrolError
from ctcontrol.exact.lq._arrays import Array
from ctcontrol.exact.lq._functionals import PolicyGradient
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._schedule import Constant
from ctcontrol.exact.lq._system import AnyPolicy, as_law
from ctcontrol.exact.lq._value_function import Quadratic

if TYPE_CHECKING:
    from ctcontrol.exact.lq._problem import LQProblem


@dataclass(frozen=True, eq=False)
class StationaryLQ:
    """η(π) = E∫₀^∞ e^{−ρt}(r + λ·entropy)dt for policies that are constant in time.

    Dynamics, costs, discount ρ > 0 and initial law are those of `lq`; its horizon and terminal
    cost do not count. η is finite where A − BK − ρ/2 is stable, which is all that is asked.
    (Zhao, Tang, Yao 2023; docs/theory, linear-quadratic problems.)

    Attributes:
        lq: the problem.

    Raises:
        CtcontrolError: a problem without a discount.
    """

    lq: "LQProblem"

    def __post_init__(self) -> None:
        if self.lq.discount <= 0:
            raise CtcontrolError(
                f"without a horizon the discount must be > 0, got {self.lq.discount}"
            )

    def optimal_policy(self) -> LinearGaussianLaw:
        """N(−K*x, λ/2 R⁻¹) with the algebraic Riccati equation of A − ρ/2.

        Raises:
            CtcontrolError: no policy has a finite return.
        """
        lq = self.lq
        shifted = lq.A - 0.5 * lq.discount * np.eye(lq.states)
        try:
            P = solve_continuous_are(shifted, lq.B, lq.Q, lq.R, s=lq.S)
        except LinAlgError as error:
            raise CtcontrolError(
                "the algebraic Riccati equation has no stabilizing solution, so that no policy "
                f"has a finite return ({error}); raise the discount or give Q full rank"
            ) from None
        gain = np.linalg.solve(lq.R, lq.B.T @ P + lq.S.T)
        return LinearGaussianLaw(gain, covariance=0.5 * lq.temperature * np.linalg.inv(lq.R))

    def value(self, policy: AnyPolicy) -> Quadratic:
        """V(x) = −xᵀPx − 2pᵀx − c, with A_c = A − BK:

        (A_c − ρ/2)ᵀP + P(A_c − ρ/2) + Q − SK − KᵀSᵀ + KᵀRK = 0,
        p = (ρ − A_cᵀ)⁻¹[PBk + (S − KᵀR)k],  ρc = tr(ΞP) + tr(RΛ) + kᵀRk + 2pᵀBk − λ·entropy.

        Raises:
            CtcontrolError: a policy that varies in time, or that has no finite return.
        """
        lq, (K, k, spread) = self.lq, self._constant(policy)
        closed = self._closed(K)
        SK, Bk = lq.S @ K, lq.B @ k
        cost = lq.Q - SK - SK.T + K.T @ lq.R @ K
        P = np.real(solve_continuous_lyapunov(self._shift(closed).T, -cost))
        source = P @ Bk + (lq.S - K.T @ lq.R) @ k
        p: Array = np.linalg.solve(lq.discount * np.eye(lq.states) - closed.T, source)
        c = (lq.diffusion * P).sum() + (lq.R * spread).sum() + k @ lq.R @ k + 2 * p @ Bk
        c -= lq.entropy_rate(spread)
        return Quadratic((P + P.T) / 2, p, np.asarray(c / lq.discount))

    def expected_return(self, policy: AnyPolicy) -> float:
        """η(π), in units of reward."""
        return self.value(policy).expectation(self.lq.initial_mean, self.lq.initial_covariance)

    def occupation(self, policy: AnyPolicy) -> tuple[Array, Array]:
        """Mean (d,) and second moment (d, d) of the normalized law ρ∫e^{−ρt}·law(X_t)dt.

        It is the law of X at an independent exponential time of rate ρ, and
        η(π) = E[r + λ·entropy]/ρ under it.
        """
        lq, (K, k, _) = self.lq, self._constant(policy)
        closed, Bk = self._closed(K), lq.B @ k
        rho = lq.discount
        mean = np.linalg.solve(rho * np.eye(lq.states) - closed, rho * lq.initial_mean + Bk)
        start = lq.initial_covariance + np.outer(lq.initial_mean, lq.initial_mean)
        push = np.outer(Bk, mean)
        source = rho * start + lq.diffusion + push + push.T
        return mean, np.real(solve_continuous_lyapunov(self._shift(closed), -source))

    def gradient(self, policy: AnyPolicy) -> PolicyGradient:
        """dη/dK = −2(E M + e μᵀ)/ρ, dη/dk = 2(Eμ + e)/ρ, dη/dΛ = (−R + λ/2 Λ⁻¹)/ρ.

        M and μ are the moments of the normalized occupation law; E and e as in `AdvantageRate`.
        """
        lq, (_, _, spread) = self.lq, self._constant(policy)
        E, e = self._direction(policy)
        mean, second = self.occupation(policy)
        return PolicyGradient(
            gain=-2 * (E @ second + np.outer(e, mean)) / lq.discount,
            offset=2 * (E @ mean + e) / lq.discount,
            covariance=(lq.entropy_gradient(spread) - lq.R) / lq.discount,
        )

    def performance_difference(self, policy: AnyPolicy, other: AnyPolicy) -> float:
        """η(other) − η(policy) = E[q^policy + λ·entropy(other)]/ρ, occupation law of `other`."""
        lq = self.lq
        (K, k, spread), (K_, k_, spread_) = self._constant(policy), self._constant(other)
        E, e = self._direction(policy)
        mean, second = self.occupation(other)
        D, d = K - K_, k_ - k  # the action differs by Dx + d
        bend = ((D.T @ lq.R @ D) * second).sum() + 2 * d @ lq.R @ D @ mean + d @ lq.R @ d
        tilt = ((D.T @ E) * second).sum() + d @ E @ mean + e @ D @ mean + d @ e
        noise = (lq.R * (spread - spread_)).sum()
        bonus = lq.entropy_rate(spread_) - lq.entropy_rate(spread)
        return float(-bend + 2 * tilt + noise + bonus) / lq.discount

    def _direction(self, policy: AnyPolicy) -> tuple[Array, Array]:
        """(E, e): half of ∂q/∂u at the mean action is Ex + e."""
        lq, (K, k, _), v = self.lq, self._constant(policy), self.value(policy)
        return lq.R @ K - lq.S.T - lq.B.T @ v.P, -(lq.R @ k + lq.B.T @ v.p)

    def _constant(self, policy: AnyPolicy) -> tuple[Array, Array, Array]:
        """(K, k, Λ) of a policy that is constant in time."""
        law = as_law(policy)
        self.lq.check(law)
        if not all(isinstance(schedule, Constant) for schedule in law.schedules):
            raise CtcontrolError(
                "without a horizon policies must be constant in time; give plain arrays"
            )
        return law.at(0.0)

    def _shift(self, closed: Array) -> Array:
        return closed - 0.5 * self.lq.discount * np.eye(self.lq.states)

    def _closed(self, K: Array) -> Array:
        """A − BK, after checking that the discounted return is finite."""
        closed = self.lq.A - self.lq.B @ K
        growth = float(np.linalg.eigvals(closed).real.max())
        if growth >= 0.5 * self.lq.discount:
            raise CtcontrolError(
                f"the return is not finite: under this gain the state grows like e^{{{growth:.4g} "
                f"t}}, not below half the discount, {0.5 * self.lq.discount:.4g}; use a "
                "stabilizing gain such as that of optimal_policy()"
            )
        return closed
