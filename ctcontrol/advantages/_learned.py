"""Rates that a critic learned beside the value."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._along import ROWS
from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol._rated_value import RatedValue
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.advantages._base import needed
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class LearnedAdvantage:
    """q(t, x, a) of a `RatedValue`, as `SarsaFit` has learned it.

    No noise of the path enters, neither the step's own nor later ones, and no derivative of V:
    the variance is that of the action, the bias that of the fit. (docs/theory, q-learning.)

    Raises:
        CtcontrolError: the value has no rates.
    """

    @torch.no_grad()
    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        value = needed(value, self)
        if not isinstance(value, RatedValue):
            raise CtcontrolError(
                f"LearnedAdvantage reads the rates of a RatedValue, got {type(value).__name__}; "
                "wrap the value and fit it with SarsaFit, or use NoiseAwareAdvantage"
            )
        rows = trajectory.transitions()
        parts = []
        for index in torch.arange(len(rows), device=rows.t0.device).split(ROWS):
            part = rows[index]
            parts.append(value.rate(part.t0, part.x, part.action, part.context, part.law))
        return torch.cat(parts).reshape(trajectory.rewards.shape)
