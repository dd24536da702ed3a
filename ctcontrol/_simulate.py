"""Simulation: what is asked for, checked at the door and handed to the loop."""

from dataclasses import replace
from typing import Literal, get_args, overload

import torch

from ctcontrol._checks import CtcontrolError, check_count, check_kind
from ctcontrol._division import ALONE, Collective, Division
from ctcontrol._loop import Run, Stop, run_tiles
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._record import Everything, Rollout, Store, Sums, checkpoints
from ctcontrol._time_grid import TimeGrid
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.noise import NoiseSource, ZeroNoise
from ctcontrol.solvers import EulerMaruyama, Scheme, Solver
from ctcontrol.solvers._base import GAUSSIAN

POLICIES = (
    "GaussianPolicy takes a function of the mean action, and a law of ctcontrol.exact has a policy "
    "beside it, such as FixedLinearGaussianPolicy"
)
"""Where policies come from."""

STORES = get_args(Store)


@overload
def simulate(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    batch: int,
    *,
    generator: torch.Generator,
    solver: Scheme | None = None,
    noise: NoiseSource | None = None,
    store: Literal["all"] = "all",
    compile: str | None = None,
    micro_batch: int | None = None,
    collective: Collective = ALONE,
) -> Trajectory: ...


@overload
def simulate(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    batch: int,
    *,
    generator: torch.Generator,
    solver: Scheme | None = None,
    noise: NoiseSource | None = None,
    store: Literal["checkpoints", "none"],
    stop: Stop | None = None,
    martingale: Value | None = None,
    compile: str | None = None,
    micro_batch: int | None = None,
    collective: Collective = ALONE,
) -> Rollout: ...


def simulate(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    batch: int,
    *,
    generator: torch.Generator,
    solver: Scheme | None = None,
    noise: NoiseSource | None = None,
    store: Store = "all",
    stop: Stop | None = None,
    martingale: Value | None = None,
    compile: str | None = None,
    micro_batch: int | None = None,
    collective: Collective = ALONE,
) -> Trajectory | Rollout:
    """Run `batch` paths of `problem` under `policy` on `grid`; no gradients.

    Actions are drawn at the nodes and held over a step. A policy that absorbs the noise of the
    dynamics gets none besides. Many paths run in tiles, as many at a time as torch has threads
    (`torch.set_num_threads`); the numbers do not depend on how many.

    Args:
        problem: dynamics, reward and initial law.
        policy: the law of the actions.
        grid: decision times; must end at the problem's horizon.
        batch: number of paths.
        generator: source of the initial states, the actions and, by default, the noise.
        solver: the scheme; Euler–Maruyama by default. Where the law of a step is asked for (all
            steps stored, a martingale, a regularizer) it must be a `Solver`, whose law is known.
        noise: the Brownian increments; white noise with a seed from `generator` by default.
        store: `all` steps, as a `Trajectory`; or their sums alone, as a `Rollout` whose memory
            does not grow with the number of steps: `none`, or with the states at about √N nodes,
            `checkpoints`.
        stop: ends paths before the horizon: at the first node where it is true the terminal reward
            is paid. Not with all steps stored.
        compile: backend of `torch.compile` ("inductor") for policy and dynamics, whose first steps
            then take seconds; random numbers stay outside. It pays for networks of many small
            operations; on a CPU seldom. None compiles nothing.
        martingale: V of which the rollout sums the martingale, a control variate for the returns.
        micro_batch: paths that run at once; None for a whole tile. The numbers of a path do not
            depend on it, and the terminal reward of one part is computed beside the next part
            where the reward says that it may be (`Reward.concurrent`).
        collective: processes that share out the paths; each gets all of them back.

    Raises:
        CtcontrolError: the grid does not span [0, horizon], states, actions or rewards have
            shapes or dtypes that do not fit, a std is negative, a policy that absorbs noise
            meets another solver or other noise, or all steps are to be stored of paths that stop.
        NumericalError: a state, reward or penalty is NaN or infinite; carries the final states.
    """
    check_count("batch", batch)
    check_run(problem, grid, generator)
    check_kind("policy", policy, Policy, POLICIES)
    solver = solver or EulerMaruyama()
    check_kind("solver", solver, Scheme, "take EulerMaruyama()")
    if store == "all" or martingale is not None or problem.regularizer is not None:
        check_kind("solver", solver, Solver, GAUSSIAN)
    policy.check_solver(solver)
    if store not in STORES:
        known = ", ".join(repr(name) for name in STORES)
        raise CtcontrolError(f"store must be one of {known}, got {store!r}")
    if store == "all" and (stop is not None or martingale is not None):
        raise CtcontrolError(
            "with all steps stored paths run to the horizon and no martingale is summed; pass "
            'store="none" or "checkpoints" with stop and martingale'
        )
    noise = noise_for(policy, noise)
    division = Division(micro_batch, collective)
    run = Run(problem, policy, grid, solver, stop, compile, division)
    nodes = checkpoints(grid.steps) if store == "checkpoints" else ()
    with torch.no_grad():
        if store == "all":
            path = run_tiles(run, noise, batch, generator, lambda: Everything(problem, grid))
            return replace(path, division=division)
        return run_tiles(
            run, noise, batch, generator, lambda: Sums(problem, grid, nodes, martingale, solver)
        )


def noise_for(policy: Policy, noise: NoiseSource | None) -> NoiseSource | None:
    """The noise of a rollout of this policy; raises `CtcontrolError` if it takes no other."""
    if not policy.absorbs_noise:
        return noise
    if noise is not None:
        raise CtcontrolError(
            "this policy absorbs the noise of the dynamics, so the rollout takes no other; "
            "leave `noise` out, or use GaussianPolicy"
        )
    return ZeroNoise()


def check_run(problem: ControlProblem, grid: TimeGrid, generator: torch.Generator) -> None:
    """Raise `CtcontrolError` unless these are what their names say and fit each other.

    The grid runs from 0 to the problem's horizon.
    """
    remedy = "an exact problem makes one by its problem()"
    check_kind("problem", problem, ControlProblem, remedy)
    check_kind("grid", grid, TimeGrid, "take TimeGrid.uniform(problem.horizon, steps)")
    remedy = "take torch.Generator().manual_seed(seed)"
    check_kind("generator", generator, torch.Generator, remedy)
    if abs(grid.horizon - problem.horizon) > 1e-9 * problem.horizon or grid.nodes[0] != 0:
        raise CtcontrolError(
            f"the grid runs over [{grid.nodes[0]:g}, {grid.horizon:g}] but the problem "
            f"over [0, {problem.horizon:g}]; use TimeGrid.uniform(problem.horizon, steps)"
        )
