"""Advantage rates: how much better than average the drawn action was, per unit of time.

| estimator | bias | variance of the rate | needs |
|---|---|---|---|
| `ItoAdvantage` | none for the exact V | that of the action | ∂V/∂t, ∇V, ∇²V |
| `ActionAdvantage` | an action-free term, harmless in gradients | that of the action | ∇V |
| `TemporalDifferenceAdvantage` | O(Δt) for the exact V | ∝ 1/Δt | V at both ends |
| `MonteCarloAdvantage` | none | ∝ 1/Δt², times the return's | nothing |

All take V as it is: its error is their bias, except for `MonteCarloAdvantage`, where V is only
a baseline. All are called as `estimator(problem, solver, value, trajectory)` and return
(steps, batch), without gradients.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ctcontrol._along import gradients_along, values_along
from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol._sde import UncontrolledVolatilitySDE, of_kind
from ctcontrol._solver import Solver
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value


class AdvantageEstimator(Protocol):
    """Rates of advantage at the actions that were taken, (steps, batch)."""

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """Estimate; raises `CtcontrolError` if it needs a value and gets None."""
        ...


def _need(value: Value | None, estimator: object) -> Value:
    if value is None:
        raise CtcontrolError(
            f"{type(estimator).__name__} needs a value function; give one, or use "
            "MonteCarloAdvantage, which needs none"
        )
    return value


@dataclass(frozen=True)
class MonteCarloAdvantage:
    """(G_k − baseline)/Δ_k: the realised return to go, as in REINFORCE and DDPO.

    The baseline is V where there is one, else the mean over the batch at each step. Times Δ_k it
    is the classical weight G − baseline of a step's log-likelihood gradient.
    """

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        to_go = trajectory.return_to_go()
        if value is None:
            baseline = to_go.mean(1, keepdim=True)
        else:
            baseline = values_along(value, trajectory)[:-1]
        return (to_go - baseline) / trajectory.lengths


@dataclass(frozen=True)
class TemporalDifferenceAdvantage:
    """(e^{−ρΔ} V(t_{k+1}, X_{k+1}) − V(t_k, X_k) + gain_k)/Δ_k.

    Zhao, Tang, Yao 2023 (2305.18901), and V(x_{k+1}) − V(x_k) of Score as Action. No gradient
    of V is needed. With the exact V of the *chain* and a noise-absorbing policy it is unbiased
    at any step size.
    """

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        v = values_along(_need(value, self), trajectory)
        shrink = (-trajectory.discount * trajectory.lengths).exp()
        return (shrink * v[1:] - v[:-1] + trajectory.gains) / trajectory.lengths


@dataclass(frozen=True)
class ActionAdvantage:
    """Closed form: [⟨m(a) − m(μ), ∇V⟩/Δ + r(a) − r(μ)], m the mean of the step.

    For Euler m(a) − m(μ) = (b(a) − b(μ))Δ, which for reverse diffusions is g²⟨a − μ, ∇V⟩: the
    closed-form advantage rate of Score as Action without the terms that no action changes
    (docs/theory, advantage rate). No next state and no Hessian; its variance does not grow as
    Δ → 0. Without the Hessian it is wrong, at order one, where the volatility depends on the
    action: such dynamics raise `CtcontrolError`.

    Attributes:
        through_mean: differentiate V also through the policy's mean inside it (the denoised
            image); exact and dearer.
    """

    through_mean: bool = True

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        value = _need(value, self)
        remedy = "it drops the Hessian; use ItoAdvantage or TemporalDifferenceAdvantage"
        sde = of_kind(problem.sde, UncontrolledVolatilitySDE, type(self).__name__, remedy)
        gradient = gradients_along(value, trajectory, through_mean=self.through_mean)
        with torch.no_grad():
            rows = trajectory.transitions()
            ends = (rows.t0, rows.t1, rows.x)
            taken = solver.mean(sde, *ends, rows.action, rows.context)
            center = solver.mean(sde, *ends, rows.law.mean, rows.context)
            running = problem.reward.running
            reward = running(rows.t0, rows.x, rows.action, rows.context) - running(
                rows.t0, rows.x, rows.law.mean, rows.context
            )
            rate = inner(taken - center, gradient.flatten(0, 1)) / (rows.t1 - rows.t0) + reward
        return rate.reshape(trajectory.steps, trajectory.batch)


@dataclass(frozen=True)
class ItoAdvantage:
    """q(t, x, a) = ∂V/∂t + b(a)·∇V + ½tr(σσᵀ(a)∇²V) − ρV + r(a) − w·amount/Δ, for vector states.

    The exact advantage rate when V is exact (Jia and Zhou 2022, 2207.00713); E_π[q] = 0.
    """

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        value = _need(value, self)
        rows = trajectory.transitions()
        if rows.x.ndim != 2:
            raise CtcontrolError(
                f"ItoAdvantage needs vector states, got rows of shape {tuple(rows.x.shape[1:])}; "
                "use ActionAdvantage, which needs no Hessian"
            )
        jet = value.jet(rows.t0, rows.x, rows.context, hessian=True)
        assert jet.hessian is not None
        with torch.no_grad():
            sde = problem.sde
            drift = sde.drift(rows.t0, rows.x, rows.action, rows.context)
            rate = (
                jet.time
                + inner(drift, jet.gradient)
                + 0.5 * sde.volatility(rows.t0, rows.x, rows.action).trace(jet.hessian)
                - problem.discount * jet.value
                + problem.reward.running(rows.t0, rows.x, rows.action, rows.context)
            ).reshape(trajectory.steps, trajectory.batch)
        penalty = trajectory.penalty_weight * trajectory.penalties / trajectory.lengths
        return rate - penalty
