"""THE ONLY LOOP OVER TIME."""

import torch
from torch import Tensor

from ctcontrol._checks import (
    CtcontrolError,
    ShapeError,
    check_count,
    check_finite,
    check_kind,
    check_rows,
)
from ctcontrol._gaussian import Gaussian
from ctcontrol._noise import NoiseSource, WhiteNoise, ZeroNoise
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._sde import ActionAffineSDE
from ctcontrol._solver import EulerMaruyama, Solver
from ctcontrol._tensor import fill
from ctcontrol._time_grid import TimeGrid
from ctcontrol._trajectory import Trajectory
from ctcontrol._typing import Noise

POLICIES = (
    "GaussianPolicy takes a function of the mean action, and a law of ctcontrol.exact has a policy "
    "beside it, such as FixedLinearGaussianPolicy"
)
"""Where policies come from."""


@torch.no_grad()
def simulate(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    batch: int,
    *,
    generator: torch.Generator,
    solver: Solver | None = None,
    noise: NoiseSource | None = None,
) -> Trajectory:
    """Run `batch` paths of `problem` under `policy` on `grid`; no gradients.

    Actions are drawn at the nodes and held over a step. A policy that absorbs the noise of the
    dynamics gets none besides.

    Args:
        problem: dynamics, reward and initial law.
        policy: the law of the actions.
        grid: decision times; must end at the problem's horizon.
        batch: number of paths.
        generator: source of the initial states, the actions and, by default, the noise.
        solver: the scheme; Euler–Maruyama by default.
        noise: the Brownian increments; white noise from `generator` by default.

    Raises:
        CtcontrolError: the grid does not span [0, horizon], states, actions or rewards have
            shapes or dtypes that do not fit, a std is negative, or a policy that absorbs noise
            meets another solver or other noise.
        NumericalError: a state, reward or penalty is NaN or infinite; carries the final states.
    """
    check_count("batch", batch)
    check_run(problem, grid, generator)
    check_kind("policy", policy, Policy, POLICIES)
    check_kind("solver", solver or EulerMaruyama(), Solver, "take EulerMaruyama()")
    solver = solver or EulerMaruyama()
    sde, regularizer = problem.sde, problem.regularizer
    policy.check_solver(solver)
    if policy.absorbs_noise:
        if noise is not None:
            raise CtcontrolError(
                "this policy absorbs the noise of the dynamics, so the rollout takes no other; "
                "leave `noise` out, or use GaussianPolicy"
            )
        noise = ZeroNoise()
    elif noise is None:
        noise = WhiteNoise(generator)
    # E[X'|x] averages over the action too where the step is affine in it; elsewhere
    # E[X'|x, a] is taken, and what remains is a martingale difference all the same.
    affine = isinstance(sde, ActionAffineSDE)

    x, context = problem.initial(batch, generator)
    _check_start(x, batch)
    states, actions, means, stds = [x], [], [], []
    innovations, rewards, penalties, anchors = [], [], [], []
    dw: Noise | None = None
    for begin, end in grid.intervals():
        t0, t1 = fill(begin, x), fill(end, x)
        law = policy.dist(t0, x, context)
        if not rewards:
            _check_law(law, x)
        a = law.mean if policy_is_sure(law.std) else law.sample(generator)
        reward = check_rows("reward.running", problem.reward.running(t0, x, a, context), batch)
        center = solver.mean(sde, t0, t1, x, law.mean if affine else a, context)
        moved = solver.mean(sde, t0, t1, x, a, context) if affine and a is not law.mean else center
        if dw is None:
            _check_step(center, x)
            dw = sde.volatility(t0, x, a).noise_like(x)
        x_next = moved + solver.noise(sde, t0, t1, x, a, noise.increment(begin, end, dw))
        if regularizer is not None:
            anchor = regularizer.anchor(t0, x, context)
            amount = regularizer.amount(solver, sde, t0, t1, x, law, anchor, context)
            penalties.append(check_rows("regularizer.amount", amount, batch))
            if anchor is not None:
                anchors.append(anchor)
        else:
            penalties.append(torch.zeros_like(reward))
        rewards.append(reward)
        actions.append(a)
        means.append(law.mean)
        stds.append(law.std)
        innovations.append(x_next - center)
        x = x_next
        states.append(x)
    recorded = {
        "states": torch.stack(states),
        "running rewards": torch.stack(rewards),
        "penalties": torch.stack(penalties),
    }
    remedy = "take smaller steps, or lower the learning rate if the policy was being trained"
    check_finite("the rollout", recorded, remedy)
    terminal = check_rows("reward.terminal", problem.reward.terminal(x, context), batch)
    check_finite("the rollout", {"terminal rewards": terminal, "states": x}, "check the reward")
    return Trajectory(
        grid=grid,
        states=recorded["states"],
        actions=torch.stack(actions),
        means=torch.stack(means),
        stds=torch.stack(stds),
        innovations=torch.stack(innovations),
        rewards=recorded["running rewards"],
        penalties=recorded["penalties"],
        anchors=torch.stack(anchors) if anchors else None,
        terminal=terminal,
        context=context,
        discount=problem.discount,
        penalty_weight=problem.penalty_weight,
    )


def check_run(problem: ControlProblem, grid: TimeGrid, generator: torch.Generator) -> None:
    """Raise `CtcontrolError` unless these are what their names say and fit each other.

    The grid runs from 0 to the problem's horizon.
    """
    remedy = "an exact problem makes one by its problem()"
    check_kind("problem", problem, ControlProblem, remedy)
    check_kind("grid", grid, TimeGrid, "take TimeGrid.uniform(problem.horizon, steps)")
    remedy = "take torch.Generator().manual_seed(seed)"
    check_kind("generator", generator, torch.Generator, remedy)
    if abs(grid.horizon - problem.horizon) > 1e-9 * problem.horizon or grid.times[0] != 0:
        raise CtcontrolError(
            f"the grid runs over [{float(grid.times[0]):g}, {grid.horizon:g}] but the problem "
            f"over [0, {problem.horizon:g}]; use TimeGrid.uniform(problem.horizon, steps)"
        )


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
    return not bool((std != 0).any())
