"""Values and their gradients at every node of a trajectory, a bounded number of rows at a time."""

import torch
from torch import Tensor

from ctcontrol._tensor import rows_of
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value

ROWS = 8192
"""Rows evaluated together: enough to keep an accelerator busy, little enough to fit."""


@torch.no_grad()
def values_along(value: Value, trajectory: Trajectory) -> Tensor:
    """V at all nodes, (steps + 1, batch); the last is the terminal reward itself."""
    rows = trajectory.transitions()
    parts = [
        value.at(rows.t0[i], rows.x[i], rows_of(rows.context, i), rows.law.mean[i])
        for i in torch.arange(len(rows), device=rows.t0.device).split(ROWS)
    ]
    inside = torch.cat(parts).reshape(trajectory.steps, trajectory.batch)
    return torch.cat([inside, trajectory.terminal[None]])


def gradients_along(value: Value, trajectory: Trajectory, *, through_mean: bool) -> Tensor:
    """∇V at the nodes 0 … N − 1, (steps, batch, *state), detached.

    With `through_mean` false the policy's recorded mean action stands in and counts as a
    constant: cheap, and right wherever any adapted integrand will do. With true the value
    evaluates what it needs again and the gradient is complete.
    """
    rows = trajectory.transitions()
    parts = [
        value.gradient(
            rows.t0[i],
            rows.x[i],
            rows_of(rows.context, i),
            None if through_mean else rows.law.mean[i],
        )
        for i in torch.arange(len(rows), device=rows.t0.device).split(ROWS)
    ]
    return torch.cat(parts).reshape(trajectory.states[:-1].shape)
