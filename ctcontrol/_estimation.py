"""The value of a policy to a tolerance, or for a budget."""

from torch import Generator, Tensor

from ctcontrol._checks import CtcontrolError, check_count, check_positive
from ctcontrol._estimate import Estimate, Tally
from ctcontrol._loop import Stop
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._simulate import check_run, simulate
from ctcontrol._time_grid import TimeGrid
from ctcontrol._value import Value
from ctcontrol.noise import NoiseSource
from ctcontrol.solvers import Solver

BATCH = 32_768
"""Paths at a time: four tiles for a pool of threads, and 16 scrambles of 2,048 Sobol points."""

LEAST = 16
"""Replicates below which an error bar is too uncertain to stop by."""


def estimate(
    problem: ControlProblem,
    policy: Policy,
    grid: TimeGrid,
    *,
    tol: float | None = None,
    budget: float | None = None,
    generator: Generator,
    noise: NoiseSource | None = None,
    control_variate: Value | None = None,
    solver: Solver | None = None,
    stop: Stop | None = None,
    batch: int = BATCH,
) -> Estimate:
    """J(π) on this grid, from as many batches as it takes; no step is stored.

    With a control variate V the samples are the returns less V's martingale
    Σ_k e^{−ρt_k} ⟨∇V(t_k, X_k), innovation_k⟩, which has mean 0 whatever V is; the closer V is to
    the policy's value, the less variance remains. The coefficient is 1, so nothing is fitted and
    nothing biased. What a random X_0 contributes is not reduced.

    The error bar is that of independent replicates (`NoiseSource.replicates`): paths, pairs, groups
    or scrambles, `n` of them. It is looked at after every batch from 16 replicates on; for Sobol
    points, which go on in the same scrambles, after each doubling. To stop by an error bar that is
    itself estimated biases the mean by O(tol²/σ) for skewed returns and n replicates of std σ,
    small against tol once there are hundreds; for few scrambles expect the error bar itself to be
    off by 1/√(2n).

    Args:
        problem: dynamics, reward and initial law.
        policy: the law of the actions.
        grid: decision times; the bias of the discretization is left in (`multilevel` removes it).
        tol: the stderr to reach.
        budget: path-steps (paths × steps) never to exceed. With both, whichever comes first ends
            it: the stderr of the result says whether `tol` was reached.
        generator: source of initial states, actions and, by default, the noise.
        noise: a recipe that can be continued; white noise by default.
        control_variate: V; cheap where its gradient is known in closed form.
        solver: the scheme; Euler–Maruyama by default.
        stop: ends paths before the horizon (`simulate`).
        batch: paths at a time, which bounds the memory; must suit the noise.

    Raises:
        CtcontrolError: neither tol nor budget, a budget below one batch, a tol with fewer than 16
            scrambles, or what `simulate` refuses.
    """
    check_count("batch", batch)
    check_run(problem, grid, generator)
    most = _batches(tol, budget, batch * grid.steps)
    nets = noise is not None and noise.continues
    if nets and most is not None:
        most = 1 << (most.bit_length() - 1)  # a net is balanced when it is whole
    tally, scrambles = Tally(), None
    done = 0
    while True:
        part = None if noise is None else noise.after(done * batch)
        rollout = simulate(
            problem,
            policy,
            grid,
            batch,
            generator=generator,
            noise=part,
            solver=solver,
            store="none",
            stop=stop,
            martingale=control_variate,
        )
        samples = rollout.returns.double()
        if rollout.martingale is not None:
            samples = samples - rollout.martingale.double()
        replicates = samples if noise is None else noise.replicates(samples)
        done += 1
        if nets:
            scrambles = _running(scrambles, replicates, done)
            tally = Tally()
            replicates = scrambles
        tally.add(replicates)
        now = tally.estimate(path_steps=done * batch * grid.steps)
        if done == most:
            return now
        if tol is None or (nets and done & (done - 1)):
            continue
        if now.n >= LEAST and now.stderr <= tol:
            return now
        if nets and now.n < LEAST:
            raise CtcontrolError(
                f"the error bar of {now.n} scrambles is too uncertain to stop by; take "
                f"scrambles={LEAST} or more, or give a budget alone"
            )


def _batches(tol: float | None, budget: float | None, cost: int) -> int | None:
    """How many batches of this cost at most; None for any number."""
    if tol is None and budget is None:
        raise CtcontrolError("say when to stop: give tol, the stderr to reach, or a budget")
    if tol is not None:
        check_positive("tol", tol)
    if budget is None:
        return None
    most = int(check_positive("budget", budget) // cost)
    if most < 1:
        raise CtcontrolError(
            f"a budget of {budget:g} path-steps is less than one batch, {cost}; make the batch "
            "smaller"
        )
    return most


def _running(mean: Tensor | None, new: Tensor, count: int) -> Tensor:
    return new if mean is None else mean + (new - mean) / count
