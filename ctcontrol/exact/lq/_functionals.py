"""Exact moments of linear-Gaussian policies, and integrals along their paths."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctcontrol.exact.lq._arrays import Array
from ctcontrol.exact.lq._integrate import DenseSolution, RightHandSide, integrate
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._schedule import Piecewise, Schedule, knots_of
from ctcontrol.exact.lq._value_function import AdvantageRate, evaluate

if TYPE_CHECKING:
    from ctcontrol.exact.lq._system import LinearQuadraticSystem

Integrand = Callable[[float, Array, Array], Array]
"""(t, mean, covariance of X_t) ↦ a flat array, integrated over control time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of X_t under one policy, and the integrals asked for."""

    states: int
    solution: DenseSolution

    def mean(self, t: float | Array) -> Array:
        """E X_t: (d,), or (len(t), d)."""
        return self.solution(t)[..., : self.states]

    def covariance(self, t: float | Array) -> Array:
        """Cov X_t: (d, d), or (len(t), d, d)."""
        d, y = self.states, self.solution(t)
        C = y[..., d : d + d * d].reshape(*y.shape[:-1], d, d)
        return (C + np.swapaxes(C, -1, -2)) / 2

    def integral(self, t: float | Array) -> Array:
        """The integrand integrated from 0 to t."""
        return self.solution(t)[..., self.states * (self.states + 1) :]


def moments(
    lq: "LinearQuadraticSystem",
    law: LinearGaussianLaw,
    integrand: Callable[[float, float], Integrand] | None = None,
    size: int = 0,
    schedules: tuple[Schedule, ...] = (),
) -> Moments:
    """ṁ = A_c m + Bk + f,  Ċ = A_c C + C A_cᵀ + Ξ, from the initial law.

    The action's own noise does not enter: the volatility is free of the action (docs/theory,
    relaxed dynamics). `integrand(t0, t1)` gives what to integrate besides, `size` numbers,
    smooth between the jumps of `schedules`.

    Raises:
        CtcontrolError: the policy has other shapes than the problem.
    """
    lq.check(law)
    d = lq.states

    def equation(t0: float, t1: float) -> RightHandSide:
        pieces = law.within(t0, t1)
        extra = integrand(t0, t1) if integrand else None

        def right_hand_side(t: float, y: Array) -> Array:
            K, k, _ = pieces(t)
            now = lq.coefficients(t)
            closed = now.A - now.B @ K
            m, C = y[:d], y[d : d + d * d].reshape(d, d)
            AC = closed @ C
            rates: list[Array] = [
                closed @ m + now.B @ k + now.f,
                (AC + AC.T + now.diffusion).ravel(),
            ]
            if extra is not None:
                rates.append(extra(t, m, C))
            return np.concatenate(rates)

        return right_hand_side

    start = np.concatenate([lq.initial_mean, lq.initial_covariance.ravel(), np.zeros(size)])
    knots = knots_of(lq.horizon, (*law.schedules, *schedules))
    return Moments(d, integrate(equation, start, knots, what="the policy's state law"))


@dataclass(frozen=True, eq=False)
class PolicyGradient:
    """dJ/dK, dJ/dk and dJ/dΛ of a linear-Gaussian policy, in the shapes of its schedules.

    Attributes:
        gain: (m, d), or (pieces, m, d) for a `Piecewise` gain. For a smooth gain, the derivative
            along a shift that is constant in time.
        offset: (m,) or (pieces, m).
        covariance: (m, m) or (pieces, m, m).
    """

    gain: Array
    offset: Array
    covariance: Array


def policy_gradient(lq: "LinearQuadraticSystem", law: LinearGaussianLaw) -> PolicyGradient:
    """The exact policy gradient, with q's direction 2(Ex + e) and the moments of X.

    ∂J/∂K = −2∫e^{−ρt}(E E[XXᵀ] + e E[X]ᵀ)dt,  ∂J/∂k = 2∫e^{−ρt}(E E[X] + e)dt,
    ∂J/∂Λ = ∫e^{−ρt}(−R + λ/2 Λ⁻¹)dt.

    The first two do not depend on Λ. (docs/theory, policy gradient.)
    """
    advantage = AdvantageRate(lq, law, evaluate(lq, law))
    m, d = lq.actions, lq.states

    def integrand(t0: float, t1: float) -> Integrand:
        rate = advantage.within(t0, t1)

        def at(t: float, mean: Array, covariance: Array) -> Array:
            E, e = rate.direction(t)
            second = covariance + np.outer(mean, mean)
            spread = lq.entropy_gradient(rate.law.covariance(t)) - lq.coefficients(t).R
            parts = [-2 * (E @ second + np.outer(e, mean)), 2 * (E @ mean + e), spread]
            return math.exp(-lq.discount * t) * np.concatenate([part.ravel() for part in parts])

        return at

    result = moments(lq, law, integrand, m * d + m + m * m)
    cut = (m * d, m * d + m)

    def collect(schedule: Schedule, columns: slice, shape: tuple[int, ...]) -> Array:
        edges = np.array([0.0, *schedule.jumps, lq.horizon]).clip(0.0, lq.horizon)
        pieces = np.diff(result.integral(edges)[:, columns], axis=0).reshape(-1, *shape)
        return pieces if isinstance(schedule, Piecewise) else pieces[0]

    return PolicyGradient(
        gain=collect(law.gain, slice(0, cut[0]), (m, d)),
        offset=collect(law.offset, slice(*cut), (m,)),
        covariance=collect(law.covariance, slice(cut[1], None), (m, m)),
    )


def advantage_integral(
    lq: "LinearQuadraticSystem",
    law: LinearGaussianLaw,
    other: LinearGaussianLaw,
    *,
    along: LinearGaussianLaw,
) -> float:
    """E^{along} ∫ e^{−ρt} {E_{u∼other} q(t, X, u; law) + λ·entropy(other)} dt.

    Along `other` this is J(other) − J(law), the performance difference identity; along `law`
    it is the surrogate gain L(other) − J(law) that trust-region methods maximize.
    (docs/theory, performance difference.)
    """
    lq.check(law)
    lq.check(other)
    advantage = AdvantageRate(lq, law, evaluate(lq, law))

    def integrand(t0: float, t1: float) -> Integrand:
        rate, taken = advantage.within(t0, t1), other.restricted(t0, t1)

        def at(t: float, mean: Array, covariance: Array) -> Array:
            q = rate.expectation(t, taken, mean, covariance)
            q += lq.entropy_rate(taken.covariance(t))
            return np.array([math.exp(-lq.discount * t) * q])

        return at

    result = moments(lq, along, integrand, 1, (*law.schedules, *other.schedules))
    return float(result.integral(lq.horizon)[0])


def path_kl(
    lq: "LinearQuadraticSystem", law: LinearGaussianLaw, reference: LinearGaussianLaw
) -> float:
    """KL(P^law ‖ P^reference) of the state paths, in nats: ½E∫|σ⁻¹B(ū − ū_ref)|²dt.

    Only mean actions enter (Girsanov; docs/theory, path KL); infinite where the drifts differ in
    a direction that has no noise. The expectation is under `law`.
    """
    lq.check(law)
    lq.check(reference)

    def integrand(t0: float, t1: float) -> Integrand:
        first, second = law.within(t0, t1), reference.within(t0, t1)

        def at(t: float, mean: Array, covariance: Array) -> Array:
            (K, k, _), (K_, k_, _) = first(t), second(t)
            D = K_ - K
            shift = D @ mean + k - k_
            now = lq.coefficients(t)
            whitened = np.linalg.pinv(now.diffusion, rcond=1e-12, hermitian=True) @ now.B
            silent = now.B - now.diffusion @ whitened
            square = D @ covariance @ D.T + np.outer(shift, shift)
            return np.array(
                [0.5 * ((now.B.T @ whitened) * square).sum(), ((silent.T @ silent) * square).sum()]
            )

        return at

    result = moments(lq, law, integrand, 2, reference.schedules)
    nats, leaked = result.integral(lq.horizon)
    return math.inf if leaked > 1e-12 else float(nats)
