"""Rates that a critic learned beside the value."""

from dataclasses import dataclass

import torch
from torch import Tensor

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
        known = needed(value, self)
        if not isinstance(known, RatedValue):
            raise CtcontrolError(
                f"LearnedAdvantage reads the rates of a RatedValue, got {type(known).__name__}; "
                "wrap the value and fit it with SarsaFit, or use NoiseAwareAdvantage"
            )
        rows = trajectory.transitions()

        def rate(index: Tensor) -> Tensor:
            part = rows[index]
            return known.rate(part.t0, part.x, part.action, part.context, part.law)

        return rows.over(rate).reshape(trajectory.rewards.shape)
