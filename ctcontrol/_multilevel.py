"""Multilevel Monte Carlo: most paths on coarse grids, and few on fine ones for the difference."""

import math

import torch

from ctcontrol._checks import CtcontrolError, check_count, check_positive
from ctcontrol._estimate import Estimate, Tally
from ctcontrol._estimation import BATCH
from ctcontrol._loop import draw_seed
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._simulate import check_run, simulate
from ctcontrol._time_grid import TimeGrid
from ctcontrol.noise import Coarsened, NoiseSource, WhiteNoise, seed_of
from ctcontrol.solvers import Scheme


def multilevel(
    problem: ControlProblem,
    policy: Policy,
    *,
    tol: float,
    generator: torch.Generator,
    coarsest: TimeGrid | None = None,
    refine: int = 2,
    levels: int = 10,
    solver: Scheme | None = None,
    pilot: int = 1024,
    batch: int = BATCH,
) -> Estimate:
    """J(π) in continuous time to a root mean square error of `tol`, half variance, half bias².

    J ≈ Σ_l E[P_l − P_{l−1}], P_l the return on a grid with refine^l times the intervals of the
    coarsest. Both of a difference see the same Brownian path (`Coarsened`) and initial state, so
    its variance V_l falls with the step: as O(Δ²) for additive noise, else O(Δ). With n_l paths,
    proportional to √(V_l/C_l), at C_l = N_l + N_{l−1} path-steps each, the cost is least; it is
    O(tol⁻²) where a single grid takes O(tol⁻³). (Giles 2008, "Multilevel Monte Carlo path
    simulation", with V_l from a pilot that is counted in.) Sampled actions are not shared by the
    two grids: exploration leaves V_l = O(Δ).

    Levels are added until the bias, extrapolated from the last two means at weak order 1,
    max(|Y_L|, |Y_{L−1}|/refine)/(refine − 1), is below tol/√2; three at least.

    Args:
        problem: dynamics, reward and initial law.
        policy: the law of the actions, at any time.
        tol: the root mean square error aimed at.
        generator: source of everything random.
        coarsest: grid of level 0, fine enough for a stable scheme; 4 equal steps by default.
        refine: intervals of a level for each of the one before; 2 or 4 is usual.
        levels: at most; if the bias is not below tol/√2 by then, `Estimate.bias` says so.
        solver: the scheme; Euler–Maruyama by default.
        pilot: paths of every level from which V_l is first estimated.
        batch: paths at a time, which bounds the memory.

    Returns:
        The sum of the level means, its stderr, the number of paths over all levels, their cost,
        and the bias as extrapolated.

    Raises:
        CtcontrolError: a policy that absorbs the noise, or what `simulate` refuses.
    """
    check_positive("tol", tol)
    check_count("refine", refine, least=2)
    check_count("levels", levels, least=3)
    check_count("pilot", pilot, least=16)
    check_count("batch", batch)
    grid = coarsest or TimeGrid.uniform(problem.horizon, 4)
    check_run(problem, grid, generator)
    if policy.absorbs_noise:
        raise CtcontrolError(
            "a policy that absorbs the noise cannot share a Brownian path between two grids; "
            "use GaussianPolicy, or estimate"
        )
    plan: list[_Level] = []
    bias = math.inf
    while len(plan) < levels and (len(plan) < 3 or bias > tol / math.sqrt(2)):
        before = plan[-1].grid if plan else None
        grid = before.refine(refine) if before else grid
        plan.append(_Level(problem, policy, grid, before, solver, batch))
        plan[-1].run(pilot, generator)
        effort = sum(math.sqrt(level.tally.variance * level.cost) for level in plan)
        for level in plan:
            share = math.sqrt(level.tally.variance / level.cost)
            level.run(math.ceil(2 / tol**2 * share * effort) - level.tally.n, generator)
        if len(plan) > 2:
            last, second = abs(plan[-1].tally.mean), abs(plan[-2].tally.mean)
            bias = max(last, second / refine) / (refine - 1)
    return Estimate(
        mean=sum(level.tally.mean for level in plan),
        stderr=math.sqrt(sum(level.tally.variance / level.tally.n for level in plan)),
        n=sum(level.tally.n for level in plan),
        path_steps=sum(level.tally.n * level.cost for level in plan),
        bias=bias,
    )


class _Level:
    """P on `grid` less P on the grid `before`, if there is one, with the same noise."""

    def __init__(
        self,
        problem: ControlProblem,
        policy: Policy,
        grid: TimeGrid,
        before: TimeGrid | None,
        solver: Scheme | None,
        batch: int,
    ) -> None:
        self.problem, self.policy, self.solver = problem, policy, solver
        self.grid, self.before, self.batch = grid, before, batch
        self.cost = grid.steps + (before.steps if before else 0)
        self.tally = Tally()

    def run(self, paths: int, generator: torch.Generator) -> None:
        """More paths; none if the number is not positive."""
        for start in range(0, paths, self.batch):
            size, seed = min(self.batch, paths - start), draw_seed(generator)
            noise = WhiteNoise(seed_of(seed, 1))
            samples = self._returns(self.grid, noise, size, seed, generator.device)
            if self.before is not None:
                coarse = Coarsened(noise, self.grid)
                samples = samples - self._returns(self.before, coarse, size, seed, generator.device)
            self.tally.add(samples)

    def _returns(
        self, grid: TimeGrid, noise: NoiseSource, size: int, seed: int, device: torch.device
    ) -> torch.Tensor:
        rollout = simulate(
            self.problem,
            self.policy,
            grid,
            size,
            generator=torch.Generator(device).manual_seed(seed),  # the same initial states
            solver=self.solver,
            noise=noise,
            store="none",
        )
        return rollout.returns.double()
