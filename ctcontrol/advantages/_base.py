"""What an advantage estimator is."""

from typing import Protocol

from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.solvers import Solver


class AdvantageEstimator(Protocol):
    """Rates of advantage at the actions that were taken, (steps, batch)."""

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """Estimate; raises `CtcontrolError` if it needs a value and gets None."""
        ...


def needed(value: Value | None, estimator: object) -> Value:
    """The value, or a `CtcontrolError` that names the alternative."""
    if value is None:
        raise CtcontrolError(
            f"{type(estimator).__name__} needs a value function; give one, or use "
            "MonteCarloAdvantage, which needs none"
        )
    return value
