"""Exact expectations of what the scheme of Euler and Maruyama simulates.

Held against these a simulation has no discretization error, and needs no allowance for one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import hermite_e
from scipy.interpolate import CubicSpline

from ctcontrol.exact.lq import AdvantageRate, LinearGaussianLaw, LinearQuadraticSystem

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Nodes:
    """The Gaussian law of a linear chain X' = FX + f + noise.

    Attributes:
        times: (steps,) at which the steps begin.
        step: Δ.
        flows: F of every step, (steps, d, d).
        means: of X at every node, (steps + 1, d).
        covariances: likewise, (steps + 1, d, d).
    """

    times: list[float]
    step: float
    flows: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def between(self, j: int, k: int) -> np.ndarray:
        """Cov(X_k, X_j) for j ≤ k."""
        flow = np.eye(self.means.shape[1])
        for F in self.flows[j:k]:
            flow = F @ flow
        return flow @ self.covariances[j]


def nodes(system: LinearQuadraticSystem, law: LinearGaussianLaw, steps: int) -> Nodes:
    """Of the chain of `steps` equal steps; a held action does move the state."""
    dt = system.horizon / steps
    times = [k * dt for k in range(steps)]
    means, covariances, flows = [system.initial_mean], [system.initial_covariance], []
    for t in times:
        now, (K, k, spread) = system.coefficients(t), law.at(t)
        F = np.eye(system.states) + dt * (now.A - now.B @ K)
        noise = dt * now.diffusion + dt**2 * now.B @ spread @ now.B.T
        flows.append(F)
        means.append(F @ means[-1] + dt * (now.f + now.B @ k))
        covariances.append(F @ covariances[-1] @ F.T + noise)
    return Nodes(times, dt, np.array(flows), np.array(means), np.array(covariances))


def advantage(
    q: AdvantageRate, system: LinearQuadraticSystem, law: LinearGaussianLaw, steps: int
) -> float:
    """E Σ_k e^{−ρt_k} q(t_k, X_k, a_k) Δ along the chain of `law`."""
    chain = nodes(system, law, steps)
    rows = zip(chain.times, chain.means[:-1], chain.covariances[:-1], strict=True)
    rates = [np.exp(-system.discount * t) * q.expectation(t, law, m, C) for t, m, C in rows]
    return float(chain.step * np.sum(rates))


def gaussian(mean: float, variance: float, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """(points, weights) that integrate polynomials of this degree against N(mean, variance)."""
    points, weights = hermite_e.hermegauss(degree // 2 + 1)
    return mean + variance**0.5 * points, weights / weights.sum()


def backward(
    start: tuple[np.ndarray, np.ndarray],
    end: Function,
    drift: Callable[[float, np.ndarray], np.ndarray],
    volatility: Callable[[float], float],
    cost: Callable[[float, np.ndarray], np.ndarray],
    horizon: float,
    steps: int,
) -> float:
    """E[end(X_N) − Σ cost(t_k, X_k)Δ] of a scalar chain, by backward induction on a fine grid.

    Cubic splines between 801 points on ±9 and 24 nodes for the noise of a step: to about 1e-7.

    Args:
        start: points and weights of the law of X_0.
        end: reward at the end.
        drift: (t, x) -> per unit of time.
        volatility: t -> per square root of a unit of time.
        cost: (t, x) -> per unit of time.
        horizon: of time.
        steps: of the chain.
    """
    line, dt = np.linspace(-9.0, 9.0, 801), horizon / steps
    noise, weights = gaussian(0.0, 1.0, 46)
    value = CubicSpline(line, end(line))
    for k in reversed(range(steps)):
        t = k * dt
        center = line + dt * drift(t, line)
        after = value(np.clip(center[:, None] + volatility(t) * dt**0.5 * noise, -9.0, 9.0))
        value = CubicSpline(line, after @ weights - dt * cost(t, line))
    return float(start[1] @ value(start[0]))
