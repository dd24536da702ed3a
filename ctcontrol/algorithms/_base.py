"""What an algorithm is: a value with hyper-parameters, a signal and a loss."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._solver import Solver
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value


@dataclass(frozen=True, eq=False)
class PolicyLoss:
    """A loss and what it saw.

    Attributes:
        loss: to be descended; minus an estimate of the return, up to a constant.
        log_ratio: (rows,), log π_new(a)/π_old(a), detached.
        clip_fraction: share of rows whose ratio lies outside the clip range.
    """

    loss: Tensor
    log_ratio: Tensor
    clip_fraction: float


class Algorithm(Protocol):
    """Immutable hyper-parameters; owns no network, optimiser, device or loop."""

    @property
    def epochs(self) -> int:
        """Passes over a rollout."""
        ...

    @property
    def share(self) -> float:
        """Share of the rows used in a pass, in (0, 1]."""
        ...

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """What the loss needs of the rollout, one entry a step: (steps, batch, …)."""
        ...

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """The loss on some rows; leaves parameters and generators untouched."""
        ...


def penalty(problem: ControlProblem, solver: Solver, rows: Transitions, law: Gaussian) -> Tensor:
    """e^{−ρt} w · amount of the policy's new `law`, (rows,): the direct part of the gradient.

    The penalty enters a policy gradient twice: through the return to go (the penalties that the
    action makes likely later) and through this term (the one paid now).
    """
    regularizer = problem.regularizer
    if regularizer is None or regularizer.weight == 0:
        return torch.zeros_like(rows.t0)
    amount = regularizer.amount(
        solver, problem.sde, rows.t0, rows.t1, rows.x, law, rows.anchor, rows.context
    )
    return rows.weight * regularizer.weight * amount
