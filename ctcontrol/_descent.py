"""What one update descends: the loss of a minibatch, in the parts that are this process's."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, NumericalError
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Transitions
from ctcontrol._updater import Reevaluate
from ctcontrol._value import Value
from ctcontrol.algorithms._base import Algorithm, PolicyLoss
from ctcontrol.critics import Critic
from ctcontrol.solvers import Solver

RATIO_TOLERANCE = 1e-4
"""Largest |log ratio| allowed before the first update, where the ratio is 1 by definition."""
COORDINATE_TOLERANCE = 1e-6
"""The same for each coordinate of an action, where there are so many that rounding adds up."""


@dataclass(frozen=True)
class Seen:
    """Means over the rows of a minibatch.

    Attributes:
        loss: of the minibatch.
        clip_fraction: share of rows outside the clip range.
        log_ratio: mean of |log ratio|.
    """

    loss: float
    clip_fraction: float
    log_ratio: float


@dataclass(eq=False)
class Descent:
    """The policy's loss on a minibatch as a function of its parameters.

    Attributes:
        rows: of the minibatch, whosever they are.
        check_ratio: whether the likelihood ratio must be 1.
    """

    problem: ControlProblem
    solver: Solver
    policy: Policy
    algorithm: Algorithm
    rows: Transitions
    check_ratio: bool
    sums: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def losses(self) -> Iterator[Tensor]:
        """The loss of one part of this process's rows after the other; they add up to the loss."""
        for part, share in _parts(self.rows):
            result = self._result(part)
            if self.check_ratio:
                _check_ratio(result.log_ratio, self.rows)
            size = float(result.log_ratio.abs().mean())
            seen = (float(result.loss.detach()), result.clip_fraction, size)
            self.sums += share * torch.tensor(seen, dtype=torch.float64)
            yield _scaled(result.loss, share)

    def again(self) -> Sequence[Reevaluate]:
        """Each of these parts as a function of the parameters, with its KL."""
        return [partial(self._again, part, share) for part, share in _parts(self.rows)]

    def seen(self) -> Seen:
        """What `losses` saw, on all processes."""
        return Seen(*self.rows.division.collective.sum([self.sums])[0].tolist())

    def _result(self, part: Transitions) -> PolicyLoss:
        return self.algorithm.loss(self.problem, self.solver, self.policy, part)

    def _again(self, part: Transitions, share: float) -> tuple[Tensor, Tensor]:
        result = self._result(part)
        if result.law is None:
            raise CtcontrolError(
                f"{type(self.algorithm).__name__} does not report the policy's law, and a natural "
                "gradient needs it; set `law` of its PolicyLoss, or use Updater"
            )
        kl = part.law.kl(result.law).mean()
        return _scaled(result.loss, share), _scaled(kl, share)


@dataclass(eq=False)
class Regression:
    """The critic's loss on a minibatch, likewise."""

    critic: Critic
    value: Value
    rows: Transitions
    sums: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def losses(self) -> Iterator[Tensor]:
        """As `Descent.losses`."""
        for part, share in _parts(self.rows):
            loss = self.critic.loss(self.value, part)
            self.sums += share * float(loss.detach())
            yield _scaled(loss, share)

    def seen(self) -> float:
        """The loss of the minibatch."""
        return float(self.rows.division.collective.sum([self.sums])[0])


def check_divisible(algorithm: Algorithm, critic: Critic | None) -> None:
    """Raise `CtcontrolError` where a loss is no mean over rows and so cannot be taken in parts."""
    for thing in (algorithm, critic):
        if thing is not None and not thing.divisible:
            raise CtcontrolError(
                f"the loss of {type(thing).__name__} is no mean over rows, so it cannot be "
                "taken in parts; leave micro_batch out and start one process"
            )


def _parts(rows: Transitions) -> Iterator[tuple[Transitions, float]]:
    """This process's rows of a minibatch, a part at a time, and the share of all that each is."""
    division, total = rows.division, len(rows)
    for span in division.parts(division.share(total)):
        whole = len(span) == total
        index = torch.arange(span.start, span.stop, device=rows.t0.device)
        yield (rows, 1.0) if whole else (rows[index], len(span) / total)


def _scaled(mean: Tensor, share: float) -> Tensor:
    return mean if share == 1 else mean * share


def _check_ratio(log_ratio: Tensor, rows: Transitions) -> None:
    worst = float(log_ratio.abs().max())
    if not worst <= max(RATIO_TOLERANCE, COORDINATE_TOLERANCE * rows.action[0].numel()):
        raise NumericalError(
            "before the first update the log likelihood ratio should be 0 but reaches "
            f"{worst:.3g}: the policy computes something else in the update than in the rollout; "
            "put dropout and batch statistics in evaluation mode and keep states and scores in "
            "float32",
            tensors_of(rows),
        )


def tensors_of(rows: Transitions) -> dict[str, Tensor]:
    """What can be saved of rows."""
    named = {
        "t0": rows.t0,
        "t1": rows.t1,
        "x": rows.x,
        "action": rows.action,
        "mean": rows.law.mean,
    }
    extra = {"signal": rows.signal, "target": rows.target, "anchor": rows.anchor}
    return named | {k: v for k, v in extra.items() if v is not None}
