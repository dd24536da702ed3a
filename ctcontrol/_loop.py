"""THE ONLY LOOP OVER TIME."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, ShapeError, check_rows
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._record import Kept, Record, Step, join
from ctcontrol._reward import TerminalReward
from ctcontrol._sde import ActionAffineSDE
from ctcontrol._tensor import like
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Context, State, Time
from ctcontrol.noise import NoiseSource, Tile, WhiteNoise, seed_of
from ctcontrol.solvers import Solver

Stop = Callable[[Time, State, Context], Tensor]
"""(t, x, context) -> (batch,) booleans: which paths end at this node of the grid."""


@dataclass(frozen=True, eq=False)
class Run:
    """What all tiles of a simulation share."""

    problem: ControlProblem
    policy: Policy
    grid: TimeGrid
    solver: Solver
    stop: Stop | None = None


def run_tiles(
    run: Run,
    noise: NoiseSource | None,
    batch: int,
    generator: torch.Generator,
    record: Callable[[], Record[Kept]],
) -> Kept:
    """All paths of a batch; several tiles in a pool of as many threads as torch has."""
    tiles = (noise or WhiteNoise(0)).tiles(batch)
    if len(tiles) == 1:
        return roll(run, Tile(run.grid, 0, 0, batch, batch), noise, generator, record())
    seed = draw_seed(generator)
    common = noise or WhiteNoise(seed_of(seed, 1))

    def one(index: int) -> Kept:
        own = torch.Generator(generator.device).manual_seed(seed_of(seed, 0, index))
        tile = Tile(run.grid, index, tiles[index].start, tiles[index].stop, batch)
        with torch.no_grad():  # a thread has its own mode
            return roll(run, tile, common, own, record())

    # Threads within an operation fight over rows this short: one tile a thread instead.
    threads = torch.get_num_threads()
    if threads == 1 or generator.device.type != "cpu":
        return join([one(index) for index in range(len(tiles))])
    workers = min(threads, len(tiles))
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return join(list(pool.map(one, range(len(tiles)))))
    finally:
        torch.set_num_threads(threads)


def roll(
    run: Run,
    tile: Tile,
    noise: NoiseSource | None,
    generator: torch.Generator,
    record: Record[Kept],
) -> Kept:
    """One tile of paths, from 0 to the horizon; differentiable where gradients are enabled."""
    problem, policy, solver, batch = run.problem, run.policy, run.solver, tile.batch
    sde, reward, regularizer = problem.sde, problem.reward, problem.regularizer
    # E[X'|x] averages over the action too where the step is affine in it; elsewhere
    # E[X'|x, a] is taken, and what remains is a martingale difference all the same.
    affine = isinstance(sde, ActionAffineSDE)
    pays = not isinstance(reward, TerminalReward)

    x, context = problem.initial(batch, generator)
    _check_start(x, batch)
    source = (noise or WhiteNoise(draw_seed(generator))).stream(tile)
    record.begin(x, context)
    nodes = [t.expand(batch) for t in run.grid.times.to(x).unbind()]
    paid = anchor = amount = dw = alive = ended = None
    for k, (begin, end) in enumerate(run.grid.intervals()):
        t0, t1 = nodes[k], nodes[k + 1]
        if run.stop is not None:
            alive, ended = _stopped(run.stop, alive, ended, t0, x, context)
        law = policy.dist(t0, x, context)
        if k == 0:
            _check_law(law, x)
        a = law.mean if policy_is_sure(law.std) else law.sample(generator)
        if pays:
            paid = check_rows("reward.running", reward.running(t0, x, a, context), batch)
        center = solver.mean(sde, t0, t1, x, law.mean if affine else a, context)
        moved = solver.mean(sde, t0, t1, x, a, context) if affine and a is not law.mean else center
        if dw is None:
            _check_step(center, x)
            dw = sde.volatility(t0, x, a).noise_like(x)
        moved = moved + solver.noise(sde, t0, t1, x, a, source.increment(begin, end, dw))
        if regularizer is not None:
            anchor = regularizer.anchor(t0, x, context)
            amount = regularizer.amount(solver, sde, t0, t1, x, law, anchor, context)
            check_rows("regularizer.amount", amount, batch)
        if alive is not None:
            moved = torch.where(like(alive, x), moved, x)
        record.add(Step(k, t0, x, law, a, center, moved, paid, amount, anchor, alive))
        x = moved
    terminal = check_rows("reward.terminal", reward.terminal(x, context), batch)
    return record.end(x, terminal, ended)


def draw_seed(generator: torch.Generator) -> int:
    """A seed from a generator."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _stopped(
    stop: Stop, alive: Tensor | None, ended: Tensor | None, t: Time, x: State, context: Context
) -> tuple[Tensor, Tensor]:
    """Which paths go on, and when the others ended (inf for those that go on)."""
    going = ~check_rows("stop", stop(t, x, context), len(x)).bool()
    if alive is None or ended is None:
        alive, ended = torch.ones_like(going), torch.full_like(t, torch.inf)
    return alive & going, torch.where(alive & ~going, t, ended)


def _check_start(x: Tensor, batch: int) -> None:
    if not x.is_floating_point() or x.ndim < 2 or len(x) != batch:
        raise ShapeError(
            f"the initial law must return floating-point states ({batch}, ...), got {x.dtype} of "
            f"shape {tuple(x.shape)}; return one row a path, and its context"
        )


def _check_law(law: Gaussian, x: Tensor) -> None:
    """The law of the first actions: its rows, its dtype and its std."""
    mean, std = law.mean, law.std
    if len(mean) != len(x) or std.shape not in (x.shape[:1], mean.shape):
        raise ShapeError(
            f"a policy must return a mean ({len(x)}, ...) and a std ({len(x)},) or of the shape of "
            f"the mean, got {tuple(mean.shape)} and {tuple(std.shape)}"
        )
    if mean.dtype != x.dtype:
        raise CtcontrolError(
            f"the policy's mean action is {mean.dtype} but the states are {x.dtype}; give policy "
            "and problem the same dtype"
        )
    if not bool((std >= 0).all()):
        raise CtcontrolError(
            f"a std must be >= 0, got {float(std.min()):g} from the policy; learn its logarithm, "
            "as LearnedStd does"
        )


def _check_step(center: Tensor, x: Tensor) -> None:
    if center.shape != x.shape:
        raise ShapeError(
            f"a step from states of shape {tuple(x.shape)} has the mean {tuple(center.shape)}; "
            "the drift must have the shape of the state, so make the actions fit the dynamics"
        )


def policy_is_sure(std: Tensor) -> bool:
    """Whether no row has any exploration, so that drawing would only cost time."""
    distinct = std[tuple(slice(1) if step == 0 else slice(None) for step in std.stride())]
    return not bool((distinct != 0).any())
