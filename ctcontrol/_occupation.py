"""Discounted problems without a horizon: occupation laws and exponential times.

The occupation law is *normalised* here, d^π = ρ∫₀^∞ e^{−ρt} law(X_t) dt, a probability: it is the
law of X at an independent time τ ~ Exp(ρ), and η(π) = E_d[r]/ρ. (Zhao, Tang and Yao 2023,
2305.18901, leave out the factor ρ.) On a grid the nodes have the probabilities
e^{−ρt_k}Δ_k/mass with mass = Σ e^{−ρt_k}Δ_k, which tends to 1/ρ.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ctcontrol._checks import check_count, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._time_grid import TimeGrid
from ctcontrol._trajectory import Trajectory, Transitions


def occupation_mass(grid: TimeGrid, discount: float) -> float:
    """Σ_k e^{−ρt_k}Δ_k, in units of time: about (1 − e^{−ρT})/ρ, the horizon without discount."""
    check_nonnegative("discount", discount)
    return float(((-discount * grid.times[:-1]).exp() * grid.lengths).sum())


def sample_occupation(
    trajectory: Trajectory,
    draws: int,
    *,
    generator: torch.Generator,
    signal: Tensor | None = None,
    target: Tensor | None = None,
) -> Transitions:
    """`draws` steps of each path, each with probability e^{−ρt_k}Δ_k/mass: rows from d^π.

    A plain mean over rows estimates E_d, truncated at the horizon. Their `weight` is
    mass/(steps · Δ_k) instead of e^{−ρt_k}, so that what every loss computes,
    steps · mean(weight · Δ · f), has the same expectation as over all rows: the discount is in
    the sampling and not once more in the weight.

    Args:
        trajectory: long enough that e^{−ρT} is small.
        draws: rows a path.
        generator: picks the steps.
        signal: (steps, batch, …), as in `Trajectory.transitions`.
        target: (steps, batch), likewise.
    """
    check_count("draws", draws)
    grid, rho = trajectory.grid, trajectory.discount
    odds = (-rho * grid.times[:-1]).exp() * grid.lengths
    steps = torch.multinomial(
        odds.to(generator.device), trajectory.batch * draws, replacement=True, generator=generator
    )
    path = torch.arange(trajectory.batch, device=steps.device).repeat(draws)
    rows = trajectory.transitions(signal=signal, target=target)
    chosen = rows[(steps * trajectory.batch + path).to(rows.t0.device)]
    mass = occupation_mass(grid, rho)
    return replace(chosen, weight=mass / (trajectory.steps * (chosen.t1 - chosen.t0)))


def random_horizon(discount: float, step: float, *, generator: torch.Generator) -> TimeGrid:
    """A uniform grid of steps ≤ `step` up to a time τ ~ Exp(discount).

    An undiscounted return up to τ has the mean of the discounted return without horizon,
    E∫₀^τ r dt = E∫₀^∞ e^{−ρt} r dt, without truncation. All paths of a rollout share τ, so the
    independent samples are rollouts.

    Raises:
        CtcontrolError: a discount or step that is not a finite number > 0.
    """
    check_positive("discount", discount)
    check_positive("step", step)
    share = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    horizon = max(-math.log1p(-float(share)) / discount, 1e-9 * step)
    return TimeGrid.uniform(horizon, math.ceil(horizon / step))


def without_discount(problem: ControlProblem, grid: TimeGrid) -> ControlProblem:
    """The problem without discount up to the end of the grid, e.g. of a `random_horizon`.

    Its terminal reward should be 0: what is paid at the random time counts in full.
    """
    return replace(problem, horizon=grid.horizon, discount=0.0)
