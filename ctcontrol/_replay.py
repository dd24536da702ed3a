"""Parts of a rollout, made again from states that were kept and noise that is drawn again."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, NumericalError, check_count
from ctcontrol._loop import Run, draw_seed, roll
from ctcontrol._record import Record, Rollout, Step, Sums
from ctcontrol._reward import Reward, TerminalReward
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol.noise import (
    BrownianPath,
    NoiseSource,
    NoiseStream,
    Tile,
    WhiteNoise,
    ZeroNoise,
    seed_of,
)


class RunningReward(Reward):
    """r alone, with nothing at the end: what a part of a path earns.

    Args:
        reward: whose r it is.
    """

    def __init__(self, reward: Reward) -> None:
        self.reward = reward

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return self.reward.running(t, x, a, context)

    def terminal(self, x: State, context: Context) -> Scalar:
        return nothing(x, context)


def nothing(x: State, context: Context) -> Scalar:
    """0 a row."""
    return x.new_zeros(len(x))


@dataclass(frozen=True, eq=False)
class Mark:
    """Paths at a node, and where their noise stands: all it takes to go on from there.

    Attributes:
        k: the node.
        x: (batch, *state).
        generator: of the actions.
    """

    k: int
    x: State
    context: Context
    stream: NoiseStream
    generator: torch.Generator

    def fork(self) -> "Mark":
        """The same with noise of its own, which begins here again.

        Raises:
            CtcontrolError: the noise comes in order, once.
        """
        own = self.generator.clone_state()
        return replace(self, stream=_fork(self.stream), generator=own)

    def roll(self, run: Run, end: int) -> Rollout:
        """Make the steps from here to the node `end`; only the last node of the grid pays h.

        Uses up the noise: fork the mark to come again.
        """
        part = self._part(run, end)
        return self._made(part, Sums(part.problem, part.grid, (), None))

    def roll_marking(self, run: Run, nodes: frozenset[int]) -> tuple[Rollout, list["Mark"]]:
        """Likewise to the horizon, with marks at these nodes."""
        part = self._part(run, run.grid.steps)
        record = _Marks(Sums(part.problem, part.grid, (), None), nodes, self)
        return self._made(part, record), record.marks

    def _part(self, run: Run, end: int) -> Run:
        reward = run.problem.reward
        if end < run.grid.steps:
            silent = isinstance(reward, TerminalReward)
            reward = TerminalReward(nothing) if silent else RunningReward(reward)
        here = lambda batch, generator: (self.x, self.context)
        problem = replace(run.problem, initial=here, reward=reward)
        return replace(run, problem=problem, grid=TimeGrid(run.grid.times[self.k : end + 1]))

    def _made(self, part: Run, record: Record[Rollout]) -> Rollout:
        rows = len(self.x)
        return roll(part, Tile(part.grid, 0, 0, rows, rows), self.stream, self.generator, record)


class _Marks(Record[Rollout]):
    """The sums, and a mark at some nodes."""

    needs_laws = False
    needs_innovations = False

    def __init__(self, sums: Sums, nodes: frozenset[int], start: Mark) -> None:
        self.sums, self.nodes, self.start = sums, nodes, start
        self.marks: list[Mark] = []

    def begin(self, x: State, context: Context) -> None:
        self.sums.begin(x, context)

    def add(self, step: Step) -> None:
        self.sums.add(step)
        k = self.start.k + step.k + 1
        if k in self.nodes:
            # laid out in memory as the first states are: the order of the noise depends on it
            x = torch.empty_like(self.start.x).copy_(step.moved)
            self.marks.append(replace(self.start, k=k, x=x).fork())

    def end(self, x: State, terminal: Scalar, times: Tensor | None) -> Rollout:
        return self.sums.end(x, terminal, times)


def starts(
    run: Run, noise: NoiseSource | None, batch: int, generator: torch.Generator, groups: int | None
) -> Iterator[Mark]:
    """The paths as `simulate` starts them, tile after tile, or in `groups` of equal size.

    Raises:
        CtcontrolError: more groups than paths.
    """
    tiles = (noise or WhiteNoise(0)).tiles(batch)
    if groups is not None:
        if check_count("groups", groups) > batch:
            raise CtcontrolError(f"{batch} paths cannot be cut in {groups} groups; take fewer")
        tiles = [range(batch * g // groups, batch * (g + 1) // groups) for g in range(groups)]
    seed = draw_seed(generator) if len(tiles) > 1 else None
    for index, rows in enumerate(tiles):
        own, common = generator, noise
        if seed is not None:
            own = torch.Generator(generator.device).manual_seed(seed_of(seed, 0, index))
            common = noise or WhiteNoise(seed_of(seed, 1))
        x, context = run.problem.initial(len(rows), own)
        tile = Tile(run.grid, index, rows.start, rows.stop, batch)
        yield Mark(0, x, context, (common or WhiteNoise(draw_seed(own))).stream(tile), own)


def check_same(final: State, goal: State) -> None:
    """Raise `NumericalError` unless steps that were made again led to where they had led."""
    gap = float((final.detach() - goal).abs().max())
    if not gap <= 1e-3 * (1 + float(goal.abs().max())):
        raise NumericalError(
            f"steps that were made again ended {gap:.3g} away from where they had ended; put "
            'dropout and batch statistics in evaluation mode, or take method="autograd"',
            {"states": final.detach(), "expected": goal},
        )


def _fork(stream: NoiseStream) -> NoiseStream:
    if isinstance(stream, BrownianPath | ZeroNoise):
        return stream  # gives the same whenever it is asked
    try:
        return copy.deepcopy(stream)
    except TypeError:
        raise CtcontrolError(
            f"{type(stream).__name__} gives its noise in order, once, and cannot begin again in "
            'the middle of a path; take method="autograd"'
        ) from None
