"""V(t, x) by brute force: what a value network should say, with an error bar."""

from dataclasses import dataclass, replace

import torch

from ctcontrol._checks import CtcontrolError, check_count, check_kind
from ctcontrol._loop import Run, roll
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._record import Sums
from ctcontrol._simulate import POLICIES, check_run, noise_for
from ctcontrol._tensor import rows_of
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Context, Scalar, State
from ctcontrol.noise import TILE, Tile
from ctcontrol.solvers import EulerMaruyama, Scheme


@dataclass(frozen=True, eq=False)
class ValueEstimate:
    """Monte-Carlo estimates of V at some rows.

    Attributes:
        mean: (rows,), of the discounted return to go.
        stderr: (rows,), its standard error; independent from row to row.
    """

    mean: Scalar
    stderr: Scalar


@torch.no_grad()
def estimate_value(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    node: int,
    x: State,
    context: Context,
    draws: int,
    *,
    generator: torch.Generator,
    solver: Scheme | None = None,
    at_once: int = TILE,
) -> ValueEstimate:
    """V(t_node, x) of the policy's chain on `grid`: the mean over `draws` ways to go on from x.

    E[Σ_{j ≥ node} e^{−ρ(t_j − t_node)} gain_j + e^{−ρ(T − t_node)} h(X_T) | X_node = x], penalties
    of the regularizer included.

    Args:
        problem: its initial law plays no part.
        policy: acts from the node on.
        grid: of the whole rollouts, from 0 to the horizon.
        node: 0 … grid.steps − 1.
        x: (rows, *state).
        context: one entry a row, or None.
        draws: paths from every row, ≥ 2.
        generator: of actions and noise.
        solver: the scheme; Euler–Maruyama by default.
        at_once: paths that run together; bounds the memory.

    Raises:
        CtcontrolError: a node that is none of the grid's, or what `simulate` refuses.
        NumericalError: a state or reward is NaN or infinite.
    """
    check_run(problem, grid, generator)
    check_kind("policy", policy, Policy, POLICIES)
    check_count("draws", draws, 2)
    check_count("at_once", at_once)
    if not 0 <= node < grid.steps:
        raise CtcontrolError(
            f"node must be one of 0 … {grid.steps - 1}, the beginning of a step, got {node}"
        )
    solver = solver or EulerMaruyama()
    policy.check_solver(solver)
    noise, rest = noise_for(policy, None), TimeGrid(grid.times[node:])
    found = list[Scalar]()
    for part in torch.arange(len(x), device=x.device).repeat(draws).split(at_once):
        start = x[part], rows_of(context, part)
        own = replace(problem, initial=lambda batch, generator, start=start: start)
        run, tile = Run(own, policy, rest, solver), Tile(rest, 0, 0, len(part), len(part))
        found.append(roll(run, tile, noise, generator, Sums(own, rest, (), None)).returns)
    # sums are discounted to time 0
    returns = torch.cat(found).reshape(draws, len(x)) * (problem.discount * rest.times[0]).exp()
    return ValueEstimate(returns.mean(0), returns.std(0) / draws**0.5)
