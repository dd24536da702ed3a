"""Records without a meaning."""

import torch

from ctcontrol import TimeGrid, Trajectory
from tests.helpers import normal


def trajectory(grid: TimeGrid, batch: int = 3, seed: int = 0, discount: float = 0.0) -> Trajectory:
    """Arbitrary numbers in the right shapes."""
    n = grid.steps
    return Trajectory(
        grid=grid,
        states=normal(n + 1, batch, 2, seed=seed),
        actions=normal(n, batch, 2, seed=seed + 1),
        means=normal(n, batch, 2, seed=seed + 2),
        stds=normal(n, batch, seed=seed + 3).abs() + 0.1,
        innovations=normal(n, batch, 2, seed=seed + 4),
        rewards=normal(n, batch, seed=seed + 5),
        penalties=normal(n, batch, seed=seed + 6),
        anchors=normal(n, batch, 2, seed=seed + 7),
        terminal=normal(batch, seed=seed + 8),
        context=torch.arange(batch) * 10,
        discount=discount,
        penalty_weight=0.7,
        notes=normal(n, batch, 3, seed=seed + 9),
    )
