"""What may be done to advantages before they weigh a loss."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_positive
from ctcontrol._trajectory import Trajectory


class AdvantageTransform(Protocol):
    """(rates (steps, batch), trajectory) -> (steps, batch)."""

    def __call__(self, rates: Tensor, trajectory: Trajectory) -> Tensor:
        """Transform."""
        ...


@dataclass(frozen=True)
class Standardize:
    """Divide by the standard deviation over the whole batch, all steps together.

    One number scales everything, so the direction of the policy gradient is kept. (Scaling each
    time step by its own deviation is a different objective and brings back dependence on the
    step count; it is not offered.) The mean is left alone: subtracting it changes nothing in
    expectation, and rates are centred by their baseline already.
    """

    def __call__(self, rates: Tensor, trajectory: Trajectory) -> Tensor:
        return rates / rates.std().clamp_min(1e-8)


@dataclass(frozen=True)
class StandardizePerContext:
    """Centre and scale the rates among the paths with the same context, all steps together.

    DDPO's per-prompt statistics. Needs integer labels (batch,) as context; contexts with a
    single path fall back on the whole batch.

    Attributes:
        clip: bound on the absolute standardised advantage.
    """

    clip: float = 5.0

    def __post_init__(self) -> None:
        check_positive("clip", self.clip)

    def __call__(self, rates: Tensor, trajectory: Trajectory) -> Tensor:
        labels = trajectory.context
        if not isinstance(labels, Tensor) or labels.shape != (trajectory.batch,):
            raise CtcontrolError(
                "StandardizePerContext needs one integer label a path as context, got "
                f"{type(labels).__name__}; use Standardize"
            )
        weights = rates * trajectory.lengths
        out = (weights - weights.mean()) / weights.std().clamp_min(1e-8)
        for label in torch.unique(labels):
            mine = labels == label
            group = weights[:, mine]
            if int(mine.sum()) > 1:
                out[:, mine] = (group - group.mean()) / group.std().clamp_min(1e-8)
        return out.clamp(-self.clip, self.clip) / trajectory.lengths
