"""Quadratic value functions of linear-quadratic problems, and advantage rates against them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctcontrol.exact.lq._arrays import Array
from ctcontrol.exact.lq._integrate import DenseSolution, RightHandSide, integrate
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._schedule import knots_of

if TYPE_CHECKING:
    from ctcontrol.exact.lq._system import LinearQuadraticSystem


@dataclass(frozen=True, eq=False)
class Quadratic:
    """−xᵀPx − 2pᵀx − c, or many of them: P (..., d, d), p (..., d), c (...)."""

    P: Array
    p: Array
    c: Array

    def __call__(self, x: Array) -> Array:
        """Its value at x (..., d)."""
        bend = np.einsum("...i,...ij,...j->...", x, self.P, x)
        return np.asarray(-bend - 2 * (self.p * x).sum(-1) - self.c)

    def gradient(self, x: Array) -> Array:
        """−2(Px + p), shape (..., d)."""
        return -2 * (np.einsum("...ij,...j->...i", self.P, x) + self.p)

    def expectation(self, mean: Array, covariance: Array) -> float:
        """E of its value over X with this mean (d,) and covariance (d, d)."""
        return float(self(mean) - np.trace(self.P @ covariance))


@dataclass(frozen=True, eq=False)
class QuadraticValue:
    """V(t, x) = −xᵀP(t)x − 2p(t)ᵀx − c(t), the exact value of one linear-Gaussian policy."""

    states: int
    solution: DenseSolution
    right_hand_side: Callable[[float], RightHandSide]

    def at(self, t: float | Array) -> Quadratic:
        """The coefficients at a time, or at a vector of times (leading axis)."""
        return self._unpack(self.solution(t))

    def rate(self, t: float | Array) -> Quadratic:
        """Their time derivatives, by the differential equation (right-sided at a jump)."""
        times = np.atleast_1d(np.asarray(t, dtype=np.float64))
        states = self.solution(times)
        rows = [self.right_hand_side(s)(s, y) for s, y in zip(times.tolist(), states, strict=True)]
        return self._unpack(rows[0] if np.ndim(t) == 0 else np.array(rows))

    def _unpack(self, flat: Array) -> Quadratic:
        d = self.states
        P = flat[..., : d * d].reshape(*flat.shape[:-1], d, d)
        return Quadratic(
            (P + np.swapaxes(P, -1, -2)) / 2, flat[..., d * d : d * d + d], flat[..., -1]
        )


def evaluate(lq: "LinearQuadraticSystem", law: LinearGaussianLaw) -> QuadraticValue:
    """The value of u ~ N(−Kx + k, Λ), with A_c = A − BK and Ξ = σσᵀ.

    −Ṗ = Q − SK − KᵀSᵀ + KᵀRK + A_cᵀP + PA_c − ρP
    −ṗ = A_cᵀp + P(Bk + f) + (S − KᵀR)k − ρp
    −ċ = tr(ΞP) + tr(RΛ) + kᵀRk + 2pᵀ(Bk + f) − λ·entropy(Λ) − ρc

    backward from the terminal reward. (docs/theory, linear-quadratic problems.)

    Raises:
        CtcontrolError: the policy has other shapes than the problem.
    """
    lq.check(law)
    d = lq.states

    def equation(t0: float, t1: float) -> RightHandSide:
        pieces = law.within(t0, t1)

        def right_hand_side(t: float, y: Array) -> Array:
            K, k, covariance = pieces(t)
            P, p, c = y[: d * d].reshape(d, d), y[d * d : d * d + d], y[-1]
            now = lq.coefficients(t)
            R, S = now.R, now.S
            closed, push = now.A - now.B @ K, now.B @ k + now.f
            SK, PA = S @ K, P @ closed
            dP = now.Q - SK - SK.T + K.T @ R @ K + PA + PA.T - lq.discount * P
            dp = closed.T @ p + P @ push + (S - K.T @ R) @ k - lq.discount * p
            dc = (now.diffusion * P).sum() + (R * covariance).sum() + k @ R @ k + 2 * p @ push
            dc -= lq.entropy_rate(covariance) + lq.discount * c
            return -np.concatenate([dP.ravel(), dp, [dc]])

        return right_hand_side

    knots = knots_of(lq.horizon, law.schedules)
    final = _pack(lq.terminal)
    solution = integrate(equation, final, knots, backward=True, what="the policy's value")
    equations = [equation(t0, t1) for t0, t1 in itertools.pairwise(knots)]

    def right_hand_side(t: float) -> RightHandSide:
        return equations[int(np.searchsorted(knots[1:-1], t, side="right"))]

    return QuadraticValue(d, solution, right_hand_side)


def optimal_coefficients(lq: "LinearQuadraticSystem") -> QuadraticValue:
    """P and p of the optimal value (its constant is left at 0), with U = PB + S:

    −Ṗ = Q + AᵀP + PA − ρP − U R⁻¹ Uᵀ,  −ṗ = Aᵀp + Pf − ρp − U R⁻¹ Bᵀp.
    """
    d = lq.states

    def right_hand_side(t: float, y: Array) -> Array:
        P, p = y[: d * d].reshape(d, d), y[d * d : d * d + d]
        now = lq.coefficients(t)
        U = P @ now.B + now.S
        feedback = np.linalg.solve(now.R, np.column_stack([U.T, now.B.T @ p]))
        PA = P @ now.A
        dP = now.Q + PA + PA.T - lq.discount * P - U @ feedback[:, :d]
        dp = now.A.T @ p + P @ now.f - lq.discount * p - U @ feedback[:, d]
        return -np.concatenate([dP.ravel(), dp, [0.0]])

    solution = integrate(
        lambda t0, t1: right_hand_side,
        _pack(lq.terminal),
        np.array([0.0, lq.horizon]),
        backward=True,
        what="the Riccati equation",
    )
    return QuadraticValue(d, solution, lambda t: right_hand_side)


def _pack(quadratic: Quadratic) -> Array:
    """P, p and c as one flat array."""
    return np.concatenate([quadratic.P.ravel(), quadratic.p, np.reshape(quadratic.c, 1)])


@dataclass(frozen=True, eq=False)
class AdvantageRate:
    """q(t, x, u) of a linear-Gaussian policy, with δ = u + Kx − k:

    q = −δᵀRδ + 2δᵀ[(RK − Sᵀ − BᵀP)x − (Rk + Bᵀp)] + tr(RΛ) − λ·entropy(Λ),  per unit of time.

    It is ∂V/∂t + b·∇V + ½tr(Ξ∇²V) − ρV + r, and E_π[q − λ log π] = 0. (Jia and Zhou 2023;
    docs/theory, advantage rate.)
    """

    lq: "LinearQuadraticSystem"
    law: LinearGaussianLaw
    value: QuadraticValue

    def within(self, t0: float, t1: float) -> "AdvantageRate":
        """The rate that agrees with this one on (t0, t1) and is smooth there."""
        return AdvantageRate(self.lq, self.law.restricted(t0, t1), self.value)

    def direction(self, t: float) -> tuple[Array, Array]:
        """(E, e) such that ∂q/∂u at the mean action is 2(Ex + e); (m, d) and (m,)."""
        K, k, _ = self.law.at(t)
        v = self.value.at(t)
        now = self.lq.coefficients(t)
        return now.R @ K - now.S.T - now.B.T @ v.P, -(now.R @ k + now.B.T @ v.p)

    def __call__(self, t: float, x: Array, u: Array) -> Array:
        """q at one time for states (..., d) and actions (..., m)."""
        K, k, covariance = self.law.at(t)
        E, e = self.direction(t)
        R = self.lq.coefficients(t).R
        delta = u + x @ K.T - k
        bend = np.einsum("...i,ij,...j->...", delta, R, delta)
        spread = float((R * covariance).sum()) - self.lq.entropy_rate(covariance)
        return np.asarray(-bend + 2 * (delta * (x @ E.T + e)).sum(-1) + spread)

    def expectation(
        self, t: float, other: LinearGaussianLaw, mean: Array, covariance: Array
    ) -> float:
        """E q(t, X, u) for u from `other` and X with this mean and covariance."""
        K, k, spread = self.law.at(t)
        K_, k_, spread_ = other.at(t)
        E, e = self.direction(t)
        D, d = K - K_, k_ - k  # δ has mean Dx + d
        shift = D @ mean + d
        R = self.lq.coefficients(t).R
        bend = shift @ R @ shift + ((D.T @ R @ D) * covariance).sum()
        tilt = shift @ (E @ mean + e) + ((D.T @ E) * covariance).sum()
        noise = float((R * (spread - spread_)).sum()) - self.lq.entropy_rate(spread)
        return float(-bend + 2 * tilt + noise)
