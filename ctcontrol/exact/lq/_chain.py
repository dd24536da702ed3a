"""The discrete-time truth: the Euler–Maruyama chain with actions drawn at the nodes and held."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ctcontrol._checks import CtcontrolError
from ctcontrol.exact.lq._arrays import Array, as_array
from ctcontrol.exact.lq._exact_value import ChainValue
from ctcontrol.exact.lq._functionals import PolicyGradient
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._schedule import Piecewise, Schedule
from ctcontrol.exact.lq._system import AnyPolicy, as_law
from ctcontrol.exact.lq._value_function import Quadratic

if TYPE_CHECKING:
    from ctcontrol.exact.lq._problem import LQProblem


@dataclass(frozen=True, eq=False)
class EulerMaruyamaChain:
    """X_{k+1} = X_k + (AX_k + Bu_k)Δ_k + σ√Δ_k ξ_k,  u_k ~ π(· | t_k, X_k), on a time grid.

    J_N = E[Σ_k e^{−ρt_k}(r(X_k, u_k) + λ·entropy)Δ_k + e^{−ρT}h(X_N)] is what a simulation on
    this grid estimates without any discretization error; it differs from J by O(max Δ).

    Attributes:
        lq: the problem.
        times: (steps + 1,), strictly increasing from 0 to the horizon.

    Raises:
        CtcontrolError: times that do not run from 0 to the horizon.
    """

    lq: "LQProblem"
    times: Array

    def __post_init__(self) -> None:
        times = as_array("times", self.times)
        object.__setattr__(self, "times", times)
        if times.ndim != 1 or len(times) < 2 or not (np.diff(times) > 0).all():
            raise CtcontrolError(
                "times must be at least two strictly increasing numbers, got "
                f"{times.ravel().tolist()[:8]}; sort them and drop repeats"
            )
        if times[0] != 0 or abs(times[-1] - self.lq.horizon) > 1e-9 * self.lq.horizon:
            raise CtcontrolError(
                f"times run over [{times[0]:g}, {times[-1]:g}] but the problem over "
                f"[0, {self.lq.horizon:g}]; start at 0 and end at the horizon"
            )

    @property
    def _steps(self) -> list[tuple[float, float]]:
        """(t_k, Δ_k)."""
        return list(zip(self.times[:-1].tolist(), np.diff(self.times).tolist(), strict=True))

    def moments(self, policy: AnyPolicy) -> tuple[Array, Array]:
        """Means (steps + 1, d) and covariances (steps + 1, d, d) at the nodes.

        A held action does move the state: C' = FCFᵀ + ΔΞ + Δ²BΛBᵀ, F = I + ΔA_c.
        """
        lq, law = self.lq, self._law(policy)
        means, covariances = [lq.initial_mean], [lq.initial_covariance]
        for t, dt in self._steps:
            K, k, spread = law.at(t)
            F = np.eye(lq.states) + dt * (lq.A - lq.B @ K)
            noise = dt * lq.diffusion + dt**2 * lq.B @ spread @ lq.B.T
            means.append(F @ means[-1] + dt * lq.B @ k)
            covariances.append(F @ covariances[-1] @ F.T + noise)
        return np.array(means), np.array(covariances)

    def value_functions(self, policy: AnyPolicy) -> list[Quadratic]:
        """V_k(x) = −xᵀP_k x − 2p_kᵀx − c_k at every node, a list of steps + 1."""
        law = self._law(policy)
        out = [self.lq.terminal]
        for t, dt in reversed(self._steps):
            out.append(self._back_up(out[-1], dt, *law.at(t)))
        return out[::-1]

    def expected_return(self, policy: AnyPolicy) -> float:
        """J_N of the policy: the mean of the simulated return, exactly."""
        first = self.value_functions(policy)[0]
        return first.expectation(self.lq.initial_mean, self.lq.initial_covariance)

    def value(self, policy: AnyPolicy) -> ChainValue:
        """The same as a `Value`: temporal differences against it have no discretization error."""
        functions = self.value_functions(policy)
        P, p, c = (np.array([getattr(f, name) for f in functions]) for name in ("P", "p", "c"))
        return ChainValue(self.times, Quadratic(P, p, c))

    def optimal_law(self) -> LinearGaussianLaw:
        """The policy that maximizes J_N: the discrete Riccati recursion on this grid.

        With temperature λ > 0 its covariance is λΔ/2 · (RΔ + e^{−ρΔ}Δ²BᵀPB)⁻¹.
        """
        lq, tail = self.lq, self.lq.terminal
        gains, covariances = [], []
        for _, dt in reversed(self._steps):
            decay, step = math.exp(-lq.discount * dt), np.eye(lq.states) + dt * lq.A
            bend = dt * lq.R + decay * dt**2 * lq.B.T @ tail.P @ lq.B
            K = np.linalg.solve(bend, dt * lq.S.T + decay * dt * lq.B.T @ tail.P @ step)
            spread = 0.5 * lq.temperature * dt * np.linalg.inv(bend)
            tail = self._back_up(tail, dt, K, np.zeros(lq.actions), spread)
            gains.append(K)
            covariances.append(spread)
        return LinearGaussianLaw(
            Piecewise(self.times, np.array(gains[::-1])),
            covariance=Piecewise(self.times, np.array(covariances[::-1])),
        )

    def gradient(self, policy: AnyPolicy) -> PolicyGradient:
        """d J_N with respect to K, k and Λ, in the shapes of the policy's schedules."""
        lq, law, values = self.lq, self._law(policy), self.value_functions(policy)
        means, covariances = self.moments(law)
        gains, offsets, spreads = [], [], []
        for j, (t, dt) in enumerate(self._steps):
            (K, k, spread), tail = law.at(t), values[j + 1]
            decay = math.exp(-lq.discount * dt)
            now, F = math.exp(-lq.discount * t), np.eye(lq.states) + dt * (lq.A - lq.B @ K)
            BP = decay * dt * lq.B.T @ tail.P
            E = dt * (lq.R @ K - lq.S.T) - BP @ F
            e = -(dt * lq.R @ k + BP @ (dt * lq.B @ k) + decay * dt * lq.B.T @ tail.p)
            mean = means[j]
            second = covariances[j] + np.outer(mean, mean)
            gains.append(-2 * now * (E @ second + np.outer(e, mean)))
            offsets.append(2 * now * (E @ mean + e))
            entropy = dt * lq.entropy_gradient(spread)
            spreads.append(now * (entropy - dt * lq.R - dt * BP @ lq.B))
        return PolicyGradient(
            self._collect(law.gain, gains),
            self._collect(law.offset, offsets),
            self._collect(law.covariance, spreads),
        )

    def path_kl(self, policy: AnyPolicy, reference: AnyPolicy) -> float:
        """Σ_k E KL(step at the mean action ‖ step at the reference's), in nats; under `policy`.

        This is what `PathKL` accumulates: ½Δ_k E|σ⁻¹B(ū − ū_ref)|²; infinite where the drifts
        differ in a direction that has no noise.
        """
        law, other = self._law(policy), self._law(reference)
        means, covariances = self.moments(law)
        xi, B = self.lq.diffusion, self.lq.B
        whitened = np.linalg.pinv(xi, rcond=1e-12, hermitian=True) @ B
        silent = B - xi @ whitened
        nats = leaked = 0.0
        for j, (t, dt) in enumerate(self._steps):
            (K, k, _), (K_, k_, _) = law.at(t), other.at(t)
            D = K_ - K
            shift = D @ means[j] + k - k_
            square = D @ covariances[j] @ D.T + np.outer(shift, shift)
            nats += 0.5 * dt * ((B.T @ whitened) * square).sum()
            leaked += dt * ((silent.T @ silent) * square).sum()
        return math.inf if leaked > 1e-12 else float(nats)

    def _law(self, policy: AnyPolicy) -> LinearGaussianLaw:
        law = as_law(policy)
        self.lq.check(law)
        return law

    def _back_up(self, tail: Quadratic, dt: float, K: Array, k: Array, spread: Array) -> Quadratic:
        """V_k from V_{k+1}: the reward of one step plus the discounted expectation."""
        lq = self.lq
        decay, F = math.exp(-lq.discount * dt), np.eye(lq.states) + dt * (lq.A - lq.B @ K)
        move, SK = dt * lq.B @ k, lq.S @ K
        noise = dt * lq.diffusion + dt**2 * lq.B @ spread @ lq.B.T
        P = dt * (lq.Q - SK - SK.T + K.T @ lq.R @ K) + decay * F.T @ tail.P @ F
        p = dt * (lq.S - K.T @ lq.R) @ k + decay * F.T @ (tail.P @ move + tail.p)
        cost = (lq.R * spread).sum() + k @ lq.R @ k - lq.entropy_rate(spread)
        later = (noise * tail.P).sum() + move @ tail.P @ move + 2 * tail.p @ move + tail.c
        return Quadratic(P, p, np.asarray(dt * cost + decay * later))

    def _collect(self, schedule: Schedule, rows: Sequence[Array]) -> Array:
        """Sum the rows of the steps that use the same piece of the schedule."""
        edges = np.array([*schedule.jumps])
        piece = np.searchsorted(edges, self.times[:-1], side="right")
        out = np.zeros((len(edges) + 1, *rows[0].shape))
        np.add.at(out, piece, np.array(rows))
        return out if isinstance(schedule, Piecewise) else out[0]
