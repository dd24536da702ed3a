"""What an algorithm is: a value with hyper-parameters, a signal and a loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor

from ctcontrol._checks import check_count, check_share
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value
from ctcontrol.solvers import Solver


@dataclass(frozen=True, eq=False)
class PolicyLoss:
    """A loss and what it saw.

    Attributes:
        loss: to be descended; minus an estimate of the return, up to a constant.
        log_ratio: (rows,), log π_new(a)/π_old(a), detached.
        clip_fraction: share of rows whose ratio lies outside the clip range.
        law: the policy's law at the rows, with its graph; a natural gradient needs it.
    """

    loss: Tensor
    log_ratio: Tensor
    clip_fraction: float = 0.0
    law: Gaussian | None = None


class Algorithm(Protocol):
    """Immutable hyper-parameters; owns no network, optimiser, device or loop."""

    @property
    def epochs(self) -> int:
        """Passes over a rollout; 0 leaves the policy as it is."""
        ...

    @property
    def share(self) -> float:
        """Share of the rows used in a pass, in (0, 1]."""
        ...

    @property
    def off_policy(self) -> bool:
        """Whether rollouts of another policy than the one that learns will do."""
        ...

    @property
    def divisible(self) -> bool:
        """Whether `loss` is a mean over rows, so that a minibatch may be descended in parts."""
        ...

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """What the loss needs of the rollout, one entry a step: (steps, batch, …)."""
        ...

    def minibatches(
        self, rows: Transitions, size: int, generator: torch.Generator
    ) -> Iterator[Transitions]:
        """The rows of one update after the other, for all passes."""
        ...

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """The loss on some rows; leaves parameters and generators untouched."""
        ...

    def adapted(self, policy: Policy, rows: Transitions) -> "Algorithm":
        """The algorithm of the next iteration, given what the updates made of `policy`.

        `rows` are those of the rollout, which know the law they were drawn from. A value with
        other coefficients, or itself; nothing is changed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What most algorithms answer alike: random minibatches in a number of passes, on policy.

    Attributes:
        epochs: passes over a rollout; 0 leaves the policy as it is.
        share: share of the rows used in a pass, in (0, 1]; an unbiased saving.

    Raises:
        CtcontrolError: a number out of its range.
    """

    epochs: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs, least=0)
        check_share("share", self.share)

    @property
    def off_policy(self) -> bool:
        """False. Override only where the fixed point does not depend on who acts."""
        return False

    @property
    def divisible(self) -> bool:
        """True. Override where the loss of a row depends on the others."""
        return True

    def minibatches(
        self, rows: Transitions, size: int, generator: torch.Generator
    ) -> Iterator[Transitions]:
        """`size` rows in random order. Override only where the order means something."""
        for _ in range(self.epochs):
            yield from rows.minibatches(size, generator, share=self.share)

    def adapted(self, policy: Policy, rows: Transitions) -> Self:
        """Itself. Override only where a coefficient follows what was measured."""
        return self


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


@torch.no_grad()
def log_ratio(rows: Transitions, law: Gaussian) -> Tensor:
    """log π_new(a)/π_old(a), (rows,), to report; 0 where an action was drawn without noise."""
    explores = bool((rows.law.std > 0).all())
    return law.log_ratio(rows.law, rows.action) if explores else torch.zeros_like(rows.t0)
