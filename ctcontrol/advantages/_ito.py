"""The advantage rate by Itô's formula."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.advantages._base import needed
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class ItoAdvantage:
    """q(t, x, a) = ∂V/∂t + b(a)·∇V + ½tr(σσᵀ(a)∇²V) − ρV + r(a) − w·amount/Δ, for vector states.

    The exact advantage rate when V is exact (Jia and Zhou 2022, 2207.00713); E_π[q] = 0.
    """

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        known = needed(value, self)
        rows = trajectory.transitions()
        if rows.x.ndim != 2:
            raise CtcontrolError(
                f"ItoAdvantage needs vector states, got rows of shape {tuple(rows.x.shape[1:])}; "
                "use ActionAdvantage, which needs no Hessian"
            )

        def rates(index: Tensor) -> Tensor:
            part = rows[index]
            jet = known.jet(part.t0, part.x, part.context, hessian=True)
            assert jet.hessian is not None
            with torch.no_grad():
                sde = problem.sde
                drift = sde.drift(part.t0, part.x, part.action, part.context)
                return (
                    jet.time
                    + inner(drift, jet.gradient)
                    + 0.5 * sde.volatility(part.t0, part.x, part.action).trace(jet.hessian)
                    - problem.discount * jet.value
                    + problem.reward.running(part.t0, part.x, part.action, part.context)
                )

        rate = rows.over(rates).reshape(trajectory.steps, trajectory.batch)
        penalty = trajectory.penalty_weight * trajectory.penalties / trajectory.lengths
        return rate - penalty
