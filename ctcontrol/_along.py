"""Values and their gradients at every node of a trajectory, a bounded number of rows at a time."""

from collections.abc import Callable

import torch
from torch import Tensor

from ctcontrol._tensor import rows_of
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._typing import Context, State, Time
from ctcontrol._value import Value


@torch.no_grad()
def values_along(value: Value, trajectory: Trajectory) -> Tensor:
    """V at all nodes, (steps + 1, batch); the last is the terminal reward itself."""
    rows = trajectory.transitions()
    inside = rows.over(
        lambda i: _given(value, rows, i).at(
            rows.t0[i], rows.x[i], rows_of(rows.context, i), rows.law.mean[i]
        )
    )
    inside = inside.reshape(trajectory.steps, trajectory.batch)
    return torch.cat([inside, trajectory.terminal[None]])


def gradients_along(value: Value, trajectory: Trajectory, *, through_mean: bool) -> Tensor:
    """∇V at the nodes 0 … N − 1, (steps, batch, *state), detached.

    With `through_mean` false the policy's recorded mean action and notes stand in and count as
    constants: cheap, and right wherever any adapted integrand will do. With true the value
    evaluates what it needs again and the gradient is complete.
    """
    rows = trajectory.transitions()
    flat = rows.over(
        lambda i: (value if through_mean else _given(value, rows, i)).gradient(
            rows.t0[i],
            rows.x[i],
            rows_of(rows.context, i),
            None if through_mean else rows.law.mean[i],
        )
    )
    return flat.reshape(trajectory.states[:-1].shape)


def slopes_along(
    value: Value, trajectory: Trajectory, direction: Tensor, *, through_mean: bool
) -> Tensor:
    """⟨direction, ∇V⟩ at the nodes 0 … N − 1, (steps, batch), detached.

    `direction` is (steps, batch, *state); `through_mean` is as in `gradients_along`, whose inner
    products these are. A value may know them without ∇V (`Value.along`).
    """
    rows, flat = trajectory.transitions(), direction.flatten(0, 1)
    slopes = rows.over(
        lambda i: (value if through_mean else _given(value, rows, i)).along(
            rows.t0[i],
            rows.x[i],
            flat[i],
            rows_of(rows.context, i),
            None if through_mean else rows.law.mean[i],
        )
    )
    return slopes.reshape(trajectory.steps, trajectory.batch)


def _given(value: Value, rows: Transitions, i: Tensor) -> Value:
    return value if rows.notes is None else value.given(rows.notes[i])


def residuals(values: Tensor, trajectory: Trajectory) -> Tensor:
    """δ_k = e^{−ρΔ_k} V_{k+1} − V_k + gain_k, (steps, batch), from `values_along`.

    e^{−ρt_k} δ_k are the increments of the process that is a martingale exactly if V is the
    value of the policy (Jia and Zhou 2022, 2108.06655).
    """
    shrink = (-trajectory.discount * trajectory.lengths).exp()
    return shrink * values[1:] - values[:-1] + trajectory.gains


def martingale_along(value: Value, trajectory: Trajectory, *, through_mean: bool) -> Tensor:
    """⟨∇V(t_k, X_k), innovation_k⟩, (steps, batch): mean zero given the past, whatever V is.

    The part of V's change over a step that the simulator's own noise made, to first order.
    """
    return slopes_along(value, trajectory, trajectory.innovations, through_mean=through_mean)


@torch.no_grad()
def rows_along(
    function: Callable[[Time, State, Context], Tensor], trajectory: Trajectory
) -> Tensor:
    """function(t, x, context) -> (rows, …) at the nodes 0 … N − 1, (steps, batch, …)."""
    rows = trajectory.transitions()
    flat = rows.over(lambda i: function(rows.t0[i], rows.x[i], rows_of(rows.context, i)))
    return flat.reshape(trajectory.steps, trajectory.batch, *flat.shape[1:])
