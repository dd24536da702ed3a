"""Advantage rates as a signal, for the algorithms that weigh log likelihoods with them."""

from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory
from ctcontrol._transform import AdvantageTransform
from ctcontrol._value import Value
from ctcontrol.advantages import AdvantageEstimator
from ctcontrol.solvers import Solver


def check_exploration(trajectory: Trajectory) -> None:
    """Raise `CtcontrolError` where an action was drawn with std 0: it has no likelihood."""
    if not bool((trajectory.stds > 0).all()):
        raise CtcontrolError(
            "the policy draws some actions with std 0 and so has no likelihood ratio; "
            "give it an exploration std > 0, or use PathwisePolicyGradient, which needs none"
        )


def advantage_rates(
    advantage: AdvantageEstimator,
    transform: AdvantageTransform | None,
    problem: ControlProblem,
    solver: Solver,
    value: Value | None,
    trajectory: Trajectory,
) -> Tensor:
    """Advantage rates, (steps, batch), per unit of time; raises `CtcontrolError` without noise."""
    check_exploration(trajectory)
    rates = advantage(problem, solver, value, trajectory)
    return rates if transform is None else transform(rates, trajectory)
