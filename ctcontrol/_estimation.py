"""The value of a policy to a tolerance, or for a budget."""

from torch import Generator

from ctcontrol._checks import CtcontrolError, check_count, check_kind, check_positive
from ctcontrol._estimate import Estimate, Tally
from ctcontrol._loop import Stop
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._record import Rollout
from ctcontrol._simulate import check_run, simulate
from ctcontrol._time_grid import TimeGrid
from ctcontrol._value import Value
from ctcontrol.noise import NoiseSource
from ctcontrol.solvers import Scheme

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
    solver: Scheme | None = None,
    stop: Stop | None = None,
    batch: int = BATCH,
) -> Estimate:
    """J(π) on this grid, from as many batches as it takes; no step is stored.

    With a control variate V the samples are the returns less β times V's martingale
    (`Rollout.martingale`), which has mean 0 whatever V is; the closer V is to the policy's value,
    the less variance remains. β is the coefficient of regression in a pilot of max(16, batch/32)
    other paths, which are counted in the cost: independent of the samples, so unbiased. What a
    random X_0 contributes is not reduced.

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
    if noise is not None:
        check_kind("noise", noise, NoiseSource, "take Sobol(seed), or None for white noise")
    if control_variate is not None:
        check_kind("control_variate", control_variate, Value, "take the value of some policy")

    def run(paths: int, noise: NoiseSource | None) -> Rollout:
        return simulate(
            problem,
            policy,
            grid,
            paths,
            generator=generator,
            noise=noise,
            solver=solver,
            store="none",
            stop=stop,
            martingale=control_variate,
        )

    pilot = 0 if control_variate is None else max(16, batch // 32)
    cost, first = batch * grid.steps, pilot * grid.steps
    most = _batches(tol, budget, cost, first)
    nets = noise is not None and noise.continues
    if nets and most is not None:
        most = 1 << (most.bit_length() - 1)  # a net is balanced when it is whole
    coefficient = _regression(run(pilot, None)) if pilot else 0.0
    tally, mean, done = Tally(), None, 0
    while True:
        rollout = run(batch, noise and noise.after(done * batch))
        samples = rollout.returns.double()
        if rollout.martingale is not None:
            samples = samples.sub(rollout.martingale.double(), alpha=coefficient)
        replicates = samples if noise is None else noise.replicates(samples)
        done += 1
        if nets:
            tally = Tally()
            replicates = mean = replicates if mean is None else mean.lerp(replicates, 1 / done)
        tally.add(replicates)
        now = tally.estimate(path_steps=first + done * cost)
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


def _regression(pilot: Rollout) -> float:
    """The coefficient with which the martingale explains most of the returns."""
    assert pilot.martingale is not None
    martingale, returns = pilot.martingale.double(), pilot.returns.double()
    martingale = martingale - martingale.mean()
    power = float(martingale.square().sum())
    return float(martingale @ returns) / power if power > 0 else 0.0


def _batches(tol: float | None, budget: float | None, cost: int, first: int) -> int | None:
    """How many batches of this cost at most, after a pilot; None for any number."""
    if tol is None and budget is None:
        raise CtcontrolError("say when to stop: give tol, the stderr to reach, or a budget")
    if tol is not None:
        check_positive("tol", tol)
    if budget is None:
        return None
    most = int((check_positive("budget", budget) - first) // cost)
    if most < 1:
        raise CtcontrolError(
            f"a budget of {budget:g} path-steps does not pay for one batch, {first + cost}; make "
            "the batch smaller"
        )
    return most
