"""The one call of the simulator under test."""

import torch
from torch import Tensor

from ctcontrol import ControlProblem, Policy, TimeGrid, simulate


def rollout(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    batch: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """X_T, (batch, *state), and the returns, (batch,)."""
    path = simulate(problem, policy, grid, batch, generator=generator, store="none")
    return path.final, path.returns
