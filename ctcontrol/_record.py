"""What is kept of a rollout while it runs: every step, or sums and a few states."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import check_finite
from ctcontrol._division import Division
from ctcontrol._martingale import Martingale
from ctcontrol._problem import ControlProblem
from ctcontrol._step import Step
from ctcontrol._tensor import rows_of
from ctcontrol._time_grid import TimeGrid
from ctcontrol._trajectory import Trajectory
from ctcontrol._typing import Context, Scalar, State
from ctcontrol._value import Value
from ctcontrol.solvers import Scheme

Store = Literal["all", "checkpoints", "none"]
REMEDY = "take smaller steps, or lower the learning rate if the policy was being trained"


@dataclass(frozen=True, eq=False)
class Rollout:
    """What is left of paths whose steps were not kept.

    Attributes:
        final: (batch, *state), X_T, or X_τ of paths that were stopped at τ.
        returns: (batch,), Σ_k e^{−ρt_k} gain_k + e^{−ρτ} h(X_τ); the mean estimates J.
        divergence: (batch,), Σ_k amount_k of the regularizer, undiscounted.
        times: (batch,), when each path ended.
        martingale: (batch,) or None, what the noise did to the value V that was asked for, Σ_k
            e^{−ρt_k} ⟨∇V(t_k, X_k), innovation_k⟩, or all of it where V is quadratic in x and the
            actions sure (`QuadraticStateValue`); mean zero whatever V is.
        nodes: of the grid, at which states were kept.
        states: (len(nodes), batch, *state).
        context: one entry a path.
    """

    final: State
    returns: Scalar
    divergence: Scalar
    times: Scalar
    martingale: Scalar | None
    nodes: tuple[int, ...]
    states: Float[Tensor, "kept batch *state"]
    context: Context


Kept = TypeVar("Kept", Trajectory, Rollout)


class Record(ABC, Generic[Kept]):
    """Sees every step of one tile.

    Attributes:
        needs_laws: whether the law of every action must be known.
        needs_innovations: whether E[X'|X] must be.
        keeps_states: whether states other than the last are kept.
        wants_ends_alone: whether steps without rewards and penalties need not be handed over.
    """

    needs_laws: bool
    needs_innovations: bool
    keeps_states: bool = True
    wants_ends_alone: bool = False

    @abstractmethod
    def begin(self, x: State, context: Context) -> None:
        """The initial states."""

    @abstractmethod
    def add(self, step: Step) -> None:
        """One step."""

    @abstractmethod
    def end(self, x: State, terminal: Scalar, times: Tensor | None) -> Kept:
        """The whole; raises `NumericalError` if a number of it is not finite."""


class Everything(Record[Trajectory]):
    """All steps, as a `Trajectory`."""

    needs_laws = True
    needs_innovations = True

    def __init__(self, problem: ControlProblem, grid: TimeGrid) -> None:
        self.problem, self.grid = problem, grid
        self.states: list[Tensor] = []
        self.steps: list[Step] = []

    def begin(self, x: State, context: Context) -> None:
        self.context = context
        self.states.append(x)

    def add(self, step: Step) -> None:
        self.states.append(step.moved)
        self.steps.append(step)

    def end(self, x: State, terminal: Scalar, times: Tensor | None) -> Trajectory:
        steps, problem = self.steps, self.problem
        none = torch.zeros_like(terminal)
        laws = [s.law for s in steps if s.law is not None]
        drawn = [s.action for s in steps if s.action is not None]
        means = torch.stack([law.mean for law in laws])
        sure = all(a is law.mean for a, law in zip(drawn, laws, strict=True))
        anchors = [s.anchor for s in steps if s.anchor is not None]
        notes = [s.notes for s in steps if s.notes is not None]
        trajectory = Trajectory(
            grid=self.grid,
            states=torch.stack(self.states),
            actions=means if sure else torch.stack(drawn),
            means=means,
            stds=torch.stack([law.std for law in laws]),
            innovations=torch.stack([s.moved - s.center for s in steps if s.center is not None]),
            rewards=torch.stack([none if s.reward is None else s.reward for s in steps]),
            penalties=torch.stack([none if s.penalty is None else s.penalty for s in steps]),
            anchors=torch.stack(anchors) if anchors else None,
            terminal=terminal,
            context=self.context,
            discount=problem.discount,
            penalty_weight=problem.penalty_weight,
            notes=torch.stack(notes) if notes else None,
        )
        recorded = {
            "states": trajectory.states,
            "running rewards": trajectory.rewards,
            "penalties": trajectory.penalties,
        }
        check_finite("the rollout", recorded, REMEDY)
        check_finite("the rollout", {"terminal rewards": terminal, "states": x}, "check the reward")
        return trajectory


class Sums(Record[Rollout]):
    """Returns, and the states at a few nodes, as a `Rollout`.

    Args:
        nodes: whose states are kept.
        value: V of the martingale, if one is wanted.
        scheme: of the rollout; without it the martingale is of first order.
    """

    def __init__(
        self,
        problem: ControlProblem,
        grid: TimeGrid,
        nodes: Sequence[int],
        value: Value | None,
        scheme: Scheme | None = None,
    ) -> None:
        self.problem = problem
        self.noise_of = None if value is None else Martingale(value, problem, grid, scheme)
        self.needs_laws, self.needs_innovations = False, value is not None
        self.keeps_states = bool(nodes)
        self.wants_ends_alone = not nodes and value is None
        self.nodes = frozenset(nodes)
        self.grid = grid
        self.kept: dict[int, Tensor] = {}

    @cached_property
    def weights(self) -> list[float]:
        """e^{−ρt_k}."""
        return [math.exp(-self.problem.discount * t) for t in self.grid.nodes]

    @cached_property
    def lengths(self) -> list[float]:
        """t_{k+1} − t_k."""
        return self.grid.lengths.tolist()

    def begin(self, x: State, context: Context) -> None:
        self.context = context
        self.returns = self.divergence = x.new_zeros(len(x))
        self.martingale = None if self.noise_of is None else self.returns
        if 0 in self.nodes:
            self.kept[0] = x

    def add(self, step: Step) -> None:
        k, weight, alive = step.k, self.weights[step.k], step.alive
        if step.reward is not None:
            gain = step.reward if alive is None else step.reward * alive
            self.returns = self.returns.add(gain, alpha=weight * self.lengths[k])
        if step.penalty is not None:
            amount = step.penalty if alive is None else step.penalty * alive
            self.divergence = self.divergence + amount
            self.returns = self.returns.sub(amount, alpha=weight * self.problem.penalty_weight)
        if self.noise_of is not None and self.martingale is not None:
            gained = self.noise_of.gained(step, self.context)
            if gained is not None:
                self.martingale = self.martingale + (gained if alive is None else gained * alive)
        if k + 1 in self.nodes:
            self.kept[k + 1] = step.moved

    def end(self, x: State, terminal: Scalar, times: Tensor | None) -> Rollout:
        discount, horizon = self.problem.discount, self.grid.horizon
        if times is None:
            times = torch.full_like(terminal, horizon)
            returns = self.returns.add(terminal, alpha=math.exp(-discount * horizon))
        else:
            times = times.clamp(max=horizon)
            returns = self.returns + (-discount * times).exp() * terminal
        check_finite("the rollout", {"returns": returns, "states": x}, REMEDY)
        nodes = tuple(sorted(self.kept))
        kept = [self.kept[k] for k in nodes]
        return Rollout(
            final=x,
            returns=returns,
            divergence=self.divergence,
            times=times,
            martingale=self.martingale,
            nodes=nodes,
            states=torch.stack(kept) if kept else x.new_empty(0, *x.shape),
            context=self.context,
        )


def checkpoints(steps: int) -> tuple[int, ...]:
    """About √N of the nodes 0 … N − 1, evenly."""
    return tuple(range(0, steps, math.isqrt(steps - 1) + 1))


def join(parts: list[Kept], context: Context = None) -> Kept:
    """The tiles of a batch as one, or the parts of a tile, which had this `context`.

    The parts are used up, field by field, so that only one field is ever held twice.
    """
    if len(parts) == 1:
        return parts[0]
    first, *others = parts

    def joined(name: str, value: Any) -> Any:
        values = [value, *(vars(part).pop(name) for part in others)]
        if name == "context" and context is not None:
            return context
        if not isinstance(value, Tensor):
            return value
        return torch.cat(values, 0 if name in FIRST_AXIS else 1)

    return _each(first, joined)


def gathered(mine: Kept, division: Division, rows: int, context: Context) -> Kept:
    """The `rows` paths of all processes, of which this one ran its share; `context` is of all.

    That share is used up, as by `join`.
    """
    counts = division.counts(rows)

    def whole(name: str, value: Any) -> Any:
        if name == "context":
            return context
        if not isinstance(value, Tensor):
            return value
        axis = 0 if name in FIRST_AXIS else 1
        every = division.collective.gather(value.movedim(axis, 0).contiguous(), counts)
        return every.movedim(0, axis).contiguous()

    return _each(mine, whole)


def first_path(kept: Kept) -> Kept:
    """The first of several paths, alone."""

    def first(name: str, value: Any) -> Any:
        if name == "context":
            return rows_of(value, torch.arange(1))
        if not isinstance(value, Tensor):
            return value
        return value.narrow(0 if name in FIRST_AXIS else 1, 0, 1)

    return _each(kept, first)


def _each(kept: Kept, change: Callable[[str, Any], Any]) -> Kept:
    """A new one, whose fields are those of `kept`, which has none any more, changed."""
    return type(kept)(**{f.name: change(f.name, vars(kept).pop(f.name)) for f in fields(kept)})


FIRST_AXIS = {"final", "returns", "divergence", "times", "martingale", "terminal", "context"}
"""Fields with one entry a path along the first axis; other tensors are time-major."""
