"""What training at one number of steps costs at another, in closed form."""

from dataclasses import dataclass

import numpy as np

from ctcontrol._checks import CtcontrolError, check_count
from ctcontrol.exact.lq._arrays import Array
from ctcontrol.exact.tilt._gaussian import GaussianTilt


@dataclass(frozen=True, eq=False)
class StepTransfer:
    """Optimal corrections c_k of the score for N Euler steps, and their regret at another N.

    For Gaussian data and a linear reward bᵀy the score s_pre + c_k, constant in space, is best
    among all: E Y_T = base_N + Σ_k W_k c g²_k Δ c_k with W_k = Π_{j>k}(I + A_jΔ), so
    c_k = (c/w)W_kᵀb, and a policy loses ½w Σ_k g²_k Δ|c_k − c_k*|² against the optimum of the
    same steps. Corrections trained on one grid are read on another by linear interpolation in
    time, constant beyond the last node. (docs/theory, reverse SDE.)

    Attributes:
        tilt: the problem.

    Raises:
        CtcontrolError: its reward is not linear.
    """

    tilt: GaussianTilt

    def __post_init__(self) -> None:
        if self.tilt.quadratic.any():
            raise CtcontrolError(
                "the transfer between step counts is in closed form for a linear reward only, but "
                "quadratic is not zero"
            )

    def optimum(self, steps: int) -> Array:
        """c_k at the nodes t_k = kT/steps, k < steps; (steps, d)."""
        tilt, dt = self.tilt, self.tilt.horizon / check_count("steps", steps)
        push, rows = tilt.score_gain / tilt.score_cost * tilt.linear, []
        for t in self._nodes(steps)[::-1]:
            rows.append(push)
            A = tilt.coefficients(float(t)).A
            push = push + dt * A.T @ push
        return np.array(rows[::-1])

    def continuous(self, steps: int) -> Array:
        """The optimum of continuous time at the nodes of `steps` steps; (steps, d)."""
        law = self.tilt.optimal_policy()
        return np.array([law.offset(float(t)) for t in self._nodes(steps)])

    def transferred(self, trained: int, steps: int) -> Array:
        """The optimum of `trained` steps, read at the nodes of `steps` steps; (steps, d)."""
        nodes, source = self._nodes(steps), self._nodes(trained)
        columns = [np.interp(nodes, source, column) for column in self.optimum(trained).T]
        return np.stack(columns, 1)

    def regret(self, corrections: Array, steps: int) -> float:
        """What these corrections, (steps, d), lose against the optimum of `steps` Euler steps."""
        tilt, dt = self.tilt, self.tilt.horizon / check_count("steps", steps)
        if corrections.shape != (steps, tilt.states):
            raise CtcontrolError(
                f"corrections must have one row a step, shape {(steps, tilt.states)}, got "
                f"{corrections.shape}"
            )
        g2 = np.array([tilt.schedule.intensity(tilt.horizon - t) for t in self._nodes(steps)])
        squares = ((corrections - self.optimum(steps)) ** 2).sum(1)
        return float(0.5 * tilt.score_cost * dt * (g2 * squares).sum())

    def expected_return(self, corrections: Array) -> float:
        """bᵀE Y_T − ½w Σ g²Δ|c_k|² of as many Euler steps as there are rows; (steps, d)."""
        tilt, steps = self.tilt, len(corrections)
        dt, mean, cost = tilt.horizon / steps, tilt.initial_mean, 0.0
        for t, row in zip(self._nodes(steps).tolist(), corrections, strict=True):
            now, g2 = tilt.coefficients(t), tilt.schedule.intensity(tilt.horizon - t)
            mean = mean + dt * (now.A @ mean + now.f + now.B @ row)
            cost += 0.5 * tilt.score_cost * g2 * dt * float(row @ row)
        return float(tilt.linear @ mean) - cost

    def _nodes(self, steps: int) -> Array:
        return np.arange(steps) * self.tilt.horizon / steps
