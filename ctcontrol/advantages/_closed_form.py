"""In closed form from ∇V: no next state, no Hessian, no variance from the noise."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._along import gradients_along, slopes_along
from ctcontrol._checks import CtcontrolError
from ctcontrol._gaussian import Gaussian
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import TerminalReward
from ctcontrol._sde import ActionAffineSDE, UncontrolledVolatilitySDE, of_kind
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._typing import Action, Scalar, State
from ctcontrol._value import Value
from ctcontrol.advantages._base import needed
from ctcontrol.solvers import Solver

MOST_COORDINATES = 64
"""Action coordinates up to which an average over actions is taken node by node."""


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
        value = needed(value, self)
        require_uncontrolled(problem, type(self).__name__)
        with torch.no_grad():
            rows = trajectory.transitions()
            moved = displacement(problem, solver, rows, rows.action)
            reward = running_difference(problem, rows, rows.action).reshape_as(trajectory.rewards)
        direction = moved.reshape_as(trajectory.states[:-1])
        slope = slopes_along(value, trajectory, direction, through_mean=self.through_mean)
        return slope / trajectory.lengths + reward


@dataclass(frozen=True)
class CenteredAdvantage:
    """The action's terms minus their average over the policy:

    [⟨m(a), ∇V⟩/Δ + r(a)] − E_{a′∼π}[⟨m(a′), ∇V⟩/Δ + r(a′)], so that E_π of the rate is 0.

    What `ActionAdvantage` leaves out is restored: with the exact V this is q itself, up to the
    O(Δt) between the mean of the step and the drift, so it may stand in a performance
    difference. The average is exact for rewards and step means that are polynomials of degree
    three in the action, or sums of functions of single coordinates of degree five (Gauss–Hermite
    with three nodes a coordinate); for affine dynamics with a quadratic running reward, in
    particular. A reward that is not smooth in the action is averaged approximately. One
    evaluation of reward and drift for each of 2m + 1 nodes, m action coordinates; just one where
    drift and reward are affine by type (reverse diffusions with a terminal reward).

    Attributes:
        through_mean: as in `ActionAdvantage`.

    Raises:
        CtcontrolError: more than 64 action coordinates with exploration and a running reward or
            a drift that is not affine, or a controlled volatility.
    """

    through_mean: bool = True

    def __call__(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        value = needed(value, self)
        require_uncontrolled(problem, type(self).__name__)
        gradient = gradients_along(value, trajectory, through_mean=self.through_mean)
        with torch.no_grad():
            rows = trajectory.transitions()
            slopes = gradient.flatten(0, 1)
            taken = action_terms(problem, solver, rows, slopes, rows.action)
            average = average_action_terms(problem, solver, rows, slopes, rows.law)
        return (taken - average).reshape(trajectory.steps, trajectory.batch)


def require_uncontrolled(problem: ControlProblem, who: str) -> None:
    """Raise `CtcontrolError` where the action moves the volatility."""
    remedy = "it drops the Hessian; use ItoAdvantage or TemporalDifferenceAdvantage"
    of_kind(problem.sde, UncontrolledVolatilitySDE, who, remedy)


def action_terms(
    problem: ControlProblem, solver: Solver, rows: Transitions, gradient: State, action: Action
) -> Scalar:
    """⟨m(a) − m(μ), ∇V⟩/Δ + r(a) − r(μ), μ the recorded mean: what depends on the action, (rows,).

    It is 0 at the mean, which keeps the differences of nearby actions accurate.
    """
    moved = displacement(problem, solver, rows, action)
    reward = running_difference(problem, rows, action)
    return inner(moved, gradient) / (rows.t1 - rows.t0) + reward


def displacement(
    problem: ControlProblem, solver: Solver, rows: Transitions, action: Action
) -> State:
    """m(a) − m(μ): how far the action moves the mean of the step, (rows, *state)."""
    ends = rows.t0, rows.t1, rows.x
    taken = solver.mean(problem.sde, *ends, action, rows.context)
    return taken - solver.mean(problem.sde, *ends, rows.law.mean, rows.context)


def running_difference(problem: ControlProblem, rows: Transitions, action: Action) -> Scalar:
    """r(a) − r(μ), (rows,)."""
    running = problem.reward.running
    return running(rows.t0, rows.x, action, rows.context) - running(
        rows.t0, rows.x, rows.law.mean, rows.context
    )


def average_action_terms(
    problem: ControlProblem, solver: Solver, rows: Transitions, gradient: State, law: Gaussian
) -> Scalar:
    """The mean of `action_terms` over actions from `law`, by three nodes a coordinate, (rows,).

    E f(a) ≈ f(μ) + Σ_i [f(μ + √3 ς_i e_i) + f(μ − √3 ς_i e_i) − 2f(μ)]/6; the mean itself where
    the terms are affine by type, so that images cost one evaluation.
    """
    center = action_terms(problem, solver, rows, gradient, law.mean)
    shape = law.mean.shape
    affine = isinstance(problem.sde, ActionAffineSDE) and isinstance(problem.reward, TerminalReward)
    if affine or not bool((law.std > 0).any()):
        return center
    coordinates = shape[1:].numel()
    if coordinates > MOST_COORDINATES:
        raise CtcontrolError(
            f"averaging over actions with {coordinates} coordinates takes {2 * coordinates + 1} "
            f"evaluations of reward and drift, and {MOST_COORDINATES} coordinates are the most; "
            "use ActionAdvantage, or a policy without exploration"
        )
    reach = 3**0.5 * law.spread.expand(shape).flatten(1)
    total = center
    for i in range(coordinates):
        shift = torch.zeros_like(reach)
        shift[:, i] = reach[:, i]
        shift = shift.reshape(shape)
        for action in (law.mean + shift, law.mean - shift):
            total = total + (action_terms(problem, solver, rows, gradient, action) - center) / 6
    return total
