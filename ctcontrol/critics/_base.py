"""What a critic is: least squares of a value function on targets."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ctcontrol._checks import check_count, check_share
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value


@dataclass(frozen=True, kw_only=True)
class Critic(ABC):
    """Least squares of V(t_k, X_k) on a target, by minibatches.

    Attributes:
        epochs: passes over the rollout.
        minibatch: rows a step of the optimiser.
        share: share of the rows used in a pass, in (0, 1].
        divisible: whether `loss` is a mean over rows, so that a minibatch may be descended in
            parts; set it to False where the loss of a row depends on the others.
    """

    divisible: ClassVar[bool] = True
    epochs: int = 1
    minibatch: int = 512
    share: float = 1.0

    def __post_init__(self) -> None:
        check_count("critic epochs", self.epochs)
        check_count("critic minibatch", self.minibatch)
        check_share("critic share", self.share)

    @abstractmethod
    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        """(steps, batch), without gradients."""

    def rows(self, value: Value, trajectory: Trajectory) -> Transitions:
        """The rows that `loss` takes, targets included."""
        return trajectory.transitions(target=self.targets(value, trajectory))

    def loss(self, value: Value, rows: Transitions) -> Tensor:
        """½ mean (V − target)²."""
        assert rows.target is not None
        seen = value.given(rows.notes)
        guess = seen.at(rows.t0, rows.x, rows.context, rows.law.mean)
        return 0.5 * (guess - rows.target).square().mean()
