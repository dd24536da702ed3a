"""THE ONLY LOOP OVER TIME."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from ctcontrol._affine_step import AffineSteps, affine_steps
from ctcontrol._beside import Beside
from ctcontrol._checks import CtcontrolError, ShapeError, check_rows
from ctcontrol._deal import Deal
from ctcontrol._division import WHOLE, Division
from ctcontrol._linear_feedback import LinearFeedback, UnseenFeedback
from ctcontrol._motion import NOTHING, HeldAction, Motion, Normal
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._record import Kept, Record, Step, first_path, gathered, join
from ctcontrol._regularizer import PathKL
from ctcontrol._reward import TerminalReward
from ctcontrol._tensor import columns, like, rows_of
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Context, State, Time
from ctcontrol.noise import TILE, NoiseSource, NoiseStream, Tile, WhiteNoise, seed_of
from ctcontrol.solvers import Scheme, Solver

Stop = Callable[[Time, State, Context], Tensor]
"""(t, x, context) -> (batch,) booleans: which paths end at this node of the grid."""


UNTIMED = torch.empty(1, 0)
"""Times at which nobody looks."""


@dataclass(frozen=True, eq=False)
class Run:
    """What all tiles of a simulation share."""

    problem: ControlProblem
    policy: Policy
    grid: TimeGrid
    solver: Scheme
    stop: Stop | None = None
    backend: str | None = None
    division: Division = WHOLE

    @cached_property
    def affine(self) -> AffineSteps | None:
        """The steps, where they are affine."""
        return affine_steps(self.problem, self.policy, self.solver, self.grid)


def run_tiles(
    run: Run,
    noise: NoiseSource | None,
    batch: int,
    generator: torch.Generator,
    record: Callable[[], Record[Kept]],
) -> Kept:
    """All paths of a batch; several tiles in a pool of as many threads as torch has."""
    tiles = (noise or WhiteNoise(0)).tiles(batch)
    roll_one = roll_in_parts if run.division.divides else _roll_whole
    if len(tiles) == 1:
        return roll_one(run, Tile(run.grid, 0, 0, batch, batch), noise, generator, record)
    seed = draw_seed(generator)
    common = noise or WhiteNoise(seed_of(seed, 1))

    def one(index: int) -> Kept:
        own = torch.Generator(generator.device).manual_seed(seed_of(seed, 0, index))
        tile = Tile(run.grid, index, tiles[index].start, tiles[index].stop, batch)
        with torch.no_grad():  # a thread has its own mode
            return roll_one(run, tile, common, own, record)

    # Threads within an operation fight over rows this short: one tile a thread instead.
    threads = torch.get_num_threads()
    apart = run.division.collective.size > 1  # processes that meet after every tile, in one order
    if threads == 1 or generator.device.type != "cpu" or apart:
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
    x, context = _start(run, tile, generator)
    stream = (noise or WhiteNoise(draw_seed(generator))).stream(tile)

    def normal(_: int, like: Tensor) -> Tensor:
        return torch.empty_like(like).normal_(generator=generator)

    if not _two_networks(run, x):
        with _threads_for(x):
            return _steps(run, normal, stream, record, x, context)()
    with _threads_for(x, 2), Beside[Tensor | None]() as worker:
        return _steps(run, normal, stream, record, x, context, worker)()


def _roll_whole(
    run: Run,
    tile: Tile,
    noise: NoiseSource | None,
    generator: torch.Generator,
    record: Callable[[], Record[Kept]],
) -> Kept:
    return roll(run, tile, noise, generator, record())


def roll_in_parts(
    run: Run,
    tile: Tile,
    noise: NoiseSource | None,
    generator: torch.Generator,
    record: Callable[[], Record[Kept]],
) -> Kept:
    """The same paths, shared out among processes, a part of them at a time.

    While one part runs, the terminal reward of the part before is computed beside it, if the
    reward allows.
    """
    division = run.division
    x, context = _start(run, tile, generator)
    stream = (noise or WhiteNoise(draw_seed(generator))).stream(tile)
    shared = division.shares(tile.batch)
    share = division.share(tile.batch) if shared else range(tile.batch)
    parts: list[Kept] = []
    error: Exception | None = None
    try:
        parts = _parts(run, Deal(tile.batch, share, generator, stream), x, context, record)
    except Exception as raised:
        error = raised
    division.collective.agree(error)
    joined = join(parts, context)
    if not shared:
        return joined
    return gathered(joined, division, tile.batch, context)


def _parts(
    run: Run, deal: Deal, x: State, context: Context, record: Callable[[], Record[Kept]]
) -> list[Kept]:
    """The parts of this process's share, in order."""
    spans, parts = run.division.parts(deal.share), list[Kept]()
    columnar = x.ndim == 2 and not x.is_contiguous()
    beside = run.problem.reward.concurrent and len(spans) > 1
    with _threads_for(x), Beside[Kept]() as worker:
        for span in spans:
            rows = torch.arange(span.start, span.stop, device=x.device)
            # A single vector would not show how vectors lie in memory, on which the order of
            # their random numbers depends: it runs beside a copy of itself.
            twin = x.ndim == 2 and len(rows) == 1
            rows = rows.repeat(2) if twin else rows
            own = columns(x[rows]) if columnar else x[rows]
            sources, among = (deal.actions(span), deal.noise(span)), rows_of(context, rows)
            steps = _steps(run, *sources, record(), own, among)
            arrive = partial(_without_twin, steps) if twin else steps
            if beside:
                worker.submit(arrive)
            else:
                parts.append(arrive())
        return parts + worker.results()


def _without_twin(arrive: Callable[[], Kept]) -> Kept:
    return first_path(arrive())


def _start(run: Run, tile: Tile, generator: torch.Generator) -> tuple[State, Context]:
    """The initial states of a tile."""
    x, context = run.problem.initial(tile.batch, generator)
    _check_start(x, tile.batch)
    if tile.batch < tile.total and not (context is None or isinstance(context, Tensor)):
        raise CtcontrolError(
            f"{tile.total} paths come in tiles, whose contexts are joined as tensors, but this one "
            f"is of the kind {type(context).__name__}; make it a tensor, or run at most "
            f"{2 * TILE} paths at a time"
        )
    return x, context


def _steps(
    run: Run,
    normal: Normal,
    noise: NoiseStream,
    record: Record[Kept],
    x: State,
    context: Context,
    worker: Beside[Tensor | None] | None = None,
) -> Callable[[], Kept]:
    """Run to the horizon; what is returned pays the terminal reward and ends the record.

    A `worker` evaluates the reference of a regularizer beside the policy.
    """
    record.begin(x, context)
    motion = _motion(run, record, x, context, normal)
    problem, reward, regularizer = run.problem, run.problem.reward, run.problem.regularizer
    batch, pays = len(x), not isinstance(reward, TerminalReward)
    quiet = record.wants_ends_alone and not (pays or motion.needs_times)
    times = UNTIMED if quiet else run.grid.times.to(x)[:, None].expand(-1, batch)
    t0 = t1 = times[0]
    paid = anchor = amount = alive = ended = coming = None
    for k, span in enumerate(run.grid.intervals()):
        if quiet:  # nobody wants to know anything: with few paths, telling costs as much as moving
            x = motion.move(k, span, t0, t1, x, NOTHING, noise)
            continue
        if motion.needs_times:
            t0, t1 = times[k], times[k + 1]
        if run.stop is not None:
            alive, ended = _stopped(run.stop, alive, ended, t0, x, context)
        if worker is not None and regularizer is not None:
            coming = worker.submit(partial(regularizer.anchor, t0, x, context))
        known = motion.decide(k, t0, t1, x)
        law, a = known.law, known.action
        if k == 0 and known.center is not None:
            _check_step(known.center, x)
        if known.paid is not None:
            paid = known.paid
        elif pays and a is not None:
            paid = check_rows("reward.running", reward.running(t0, x, a, context), batch)
        moved = motion.move(k, span, t0, t1, x, known, noise)
        if regularizer is not None and law is not None and isinstance(run.solver, Solver):
            anchor = coming.result() if coming else regularizer.anchor(t0, x, context)
            amount = regularizer.amount(run.solver, problem.sde, t0, t1, x, law, anchor, context)
            check_rows("regularizer.amount", amount, batch)
        if alive is not None:
            moved = torch.where(like(alive, x), moved, x)
        notes = known.notes
        record.add(Step(k, t0, x, law, a, known.center, moved, paid, amount, anchor, alive, notes))
        x = moved
    x = motion.landed(x)

    def arrive(x: State = x) -> Kept:
        terminal = check_rows("reward.terminal", reward.terminal(x, context), batch)
        return record.end(x, terminal, ended)

    return arrive


def _two_networks(run: Run, x: State) -> bool:
    """Whether policy and reference are networks of images apart, which threads can share out."""
    kl = run.problem.regularizer
    if not isinstance(kl, PathKL) or x.ndim <= 2 or x.device.type != "cpu":
        return False
    if torch.get_num_threads() == 1 or torch.is_grad_enabled():
        return False
    return set(run.policy.modules()).isdisjoint(kl.reference.modules())


@contextmanager
def _threads_for(x: State, networks: int = 1) -> Generator[None]:
    """One thread within an operation on vectors: on a busy machine more would wait for each other.

    Images are worth them; networks evaluated beside each other get equal shares.
    """
    threads = torch.get_num_threads()
    fewer = threads // networks if x.ndim > 2 or x.device.type != "cpu" else 1
    if fewer == threads:
        yield
        return
    torch.set_num_threads(fewer)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def draw_seed(generator: torch.Generator) -> int:
    """A seed from a generator."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def _motion(run: Run, record: Record[Kept], x: State, context: Context, normal: Normal) -> Motion:
    """The cheapest way to make the steps that gives all that is asked for."""
    problem = run.problem
    lawful = record.needs_laws or problem.regularizer is not None
    affine = None if lawful else run.affine
    if affine is None or not affine.fit(x):
        return HeldAction(problem.sde, run.policy, run.solver, normal, context, run.backend)
    pays, tells = not isinstance(problem.reward, TerminalReward), record.needs_innovations
    alone = run.stop is None and not record.keeps_states
    if alone and not (pays or tells) and affine.plain and not torch.is_grad_enabled():
        return UnseenFeedback(affine.steps)
    return LinearFeedback(affine.steps, pays=pays, tells=tells, alone=alone)


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


def _check_step(center: Tensor, x: Tensor) -> None:
    if center.shape != x.shape:
        raise ShapeError(
            f"a step from states of shape {tuple(x.shape)} has the mean {tuple(center.shape)}; "
            "the drift must have the shape of the state, so make the actions fit the dynamics"
        )
