"""Policy evaluation, right and wrong."""

import numpy as np
import torch
from scipy.integrate import quad
from torch import Tensor

from ctcontrol import Estimate, TimeGrid, Trajectory, simulate
from ctcontrol.critics import (
    EligibilityTrace,
    GeneralizedMoments,
    LeastSquaresTD,
    LinearValue,
    MonteCarloFit,
    ParameterGradient,
)
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LQProblem
from validation._problems import seeded
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    equal,
    order,
    pick,
    power,
    sampled,
)

START, HORIZON = 0.8, 1.0
WRONG = -3 * START / HORIZON


def brownian(steps: int, batch: int, seed: int) -> Trajectory:
    """X = 0.8 + W with terminal reward −X_T², no running reward: V = −x² − (T − t)."""
    problem = LQProblem(
        A=[[0.0]],
        B=[[1.0]],
        Q=[[0.0]],
        R=[[1.0]],
        G=[[1.0]],
        volatility=1.0,
        horizon=HORIZON,
        initial_mean=[START],
    )
    policy = FixedLinearGaussianPolicy(LinearGaussianLaw([[0.0]]))
    grid = TimeGrid.uniform(HORIZON, steps)
    return simulate(problem.problem(), policy, grid, batch, generator=seeded(seed))


def family(feature: str = "slope") -> LinearValue:
    """−x² − (T − t)(1 + θx), or with θx² in place of θx; the truth is θ = 0 in both."""

    def phi(t: Tensor, x: Tensor, context: object) -> Tensor:
        shape = x[:, 0] if feature == "slope" else x[:, 0] ** 2
        return -((HORIZON - t) * shape)[:, None]

    def base(t: Tensor, x: Tensor, context: object) -> Tensor:
        return -(x[:, 0] ** 2) - (HORIZON - t)

    return LinearValue(phi, 1, base)


def least_squares(a: Tensor, b: Tensor) -> Estimate:
    """argmin_θ Σ(a + θb)² over steps and paths, with its error bar; a, b (steps, batch)."""
    cross, square = (a * b).sum(0), (b * b).sum(0)
    theta = -float(cross.sum() / square.sum())
    influence = (cross + theta * square) / square.mean()
    return Estimate(theta, Estimate.of(influence).stderr, len(cross))


def mean_square_td(run: Trajectory) -> Estimate:
    """The minimiser of Σ(V_{k+1} − V_k)², gradients through both: the naive residual."""
    x, t = run.states[..., 0], run.grid.times[:, None]
    truth, phi = -(x**2) - (HORIZON - t), -(HORIZON - t) * x
    return least_squares(truth.diff(dim=0), phi.diff(dim=0))


def expected_mean_square_td(steps: int) -> float:
    """The same in expectation, from the moments of Brownian motion."""
    dt = HORIZON / steps
    t = np.arange(steps) * dt
    later = HORIZON - t - dt
    cross = (2 * START * dt * later).sum()
    square = (later**2 * dt + dt**2 * (START**2 + t)).sum()
    return float(-cross / square)


def martingale_loss(run: Trajectory) -> Estimate:
    """The minimiser of Σ(V − G)², G the return to go."""
    value = family()
    goal = MonteCarloFit().targets(value, run)
    rows = run.transitions()
    with torch.no_grad():
        guess = value.at(rows.t0, rows.x, None).reshape(goal.shape)
        phi = value.features(rows.t0, rows.x, None)[:, 0].reshape(goal.shape)
    return least_squares(guess - goal, phi)


def one_step_residual(run: Trajectory) -> Estimate:
    """The minimiser of Σ(V_{k+1} − V_k − V_x ΔW)² in the family with θx²."""
    x, left = run.states[..., 0], (HORIZON - run.grid.times)[:, None]
    dw = run.innovations[..., 0]
    truth = (-(x**2) - left).diff(dim=0) + 2 * x[:-1] * dw
    phi = (-left * x**2).diff(dim=0) + 2 * (left * x)[:-1] * dw
    return least_squares(truth, phi)


def expected_residual(steps: int) -> float:
    """The same in expectation: its residual is Δ − ΔW² + θ(Δ X′² − (T − t)ΔW²)."""
    dt = HORIZON / steps
    t = np.arange(steps) * dt
    left, second, later = HORIZON - t, START**2 + t, t + dt
    cross = (2 * dt**2 * (left - dt)).sum()
    fourth = START**4 + 6 * START**2 * later + 3 * later**2
    square = 3 * left**2 * dt**2 - 2 * left * dt * (dt * second + 3 * dt**2) + dt**2 * fourth
    return float(-cross / square.sum())


def residual_limit() -> float:
    """argmin_θ ∫E[(LV)² + ½V_xx²]dt, LV = −θ(τ − X²) and V_xx = −2 − 2θτ, τ = T − t."""

    def square(t: float) -> float:
        left = HORIZON - t
        second, fourth = START**2 + t, START**4 + 6 * START**2 * t + 3 * t**2
        return left**2 - 2 * left * second + fourth + 2 * left**2

    return -quad(lambda t: 2 * (HORIZON - t), 0, HORIZON)[0] / quad(square, 0, HORIZON)[0]


def check(size: Size) -> Report:
    """Martingale orthogonality finds the value; the mean-square TD error does not."""
    batch, steps = pick(size, 20_000, 50_000), pick(size, 160, 320)
    run = brownian(steps, batch, seed=1)
    td0 = LeastSquaresTD().solve(family(), run).estimates[0]
    td_lambda = LeastSquaresTD(decay=2.0).solve(family(), run).estimates[0]
    moments = (
        GeneralizedMoments((ParameterGradient(), EligibilityTrace(0.0)), weighting="optimal")
        .solve(family(), run)
        .estimates[0]
    )
    naive, exact = mean_square_td(run), expected_mean_square_td(steps)
    counts = (10, 20, 40, 80, 160, 320)
    errors = [expected_mean_square_td(n) - WRONG for n in counts]
    lengths = [HORIZON / n for n in counts]
    small = {n: brownian(n, batch, seed=n) for n in counts[:5]}
    curve = {
        "naive mean-square TD error": [mean_square_td(r) for r in small.values()],
        "martingale loss": [martingale_loss(r) for r in small.values()],
        "TD(0)": [LeastSquaresTD().solve(family(), r).estimates[0] for r in small.values()],
    }
    residual = one_step_residual(run)
    right = LeastSquaresTD().solve(family("square"), run).estimates[0]
    return Report(
        title="Policy evaluation, right and wrong",
        statement="J is the value iff e^{−ρt}J + ∫e^{−ρu}r du is a martingale: minimize the "
        "martingale loss, or ask E∫ξ dM = 0 (TD(0), TD(λ), moments). The mean-square TD error "
        "tends to the quadratic variation instead: for X = x₀ + W, h = x² and the family "
        "x² + (T − t)(1 + θx) it gives θ = −3x₀/T, and the truth is 0.",
        assumptions="The true value lies in the family; uniform grid.",
        source="Jia and Zhou 2022 (2108.06655); docs/theory, noise-aware evaluation.",
        code=(
            "ctcontrol.critics.MonteCarloFit",
            "ctcontrol.critics.LeastSquaresTD",
            "ctcontrol.critics.GeneralizedMoments",
        ),
        claims=(
            sampled("martingale_loss", "martingale loss: θ", martingale_loss(run), 0.0),
            sampled("td0", "TD(0): θ", td0, 0.0),
            sampled("td_lambda", "TD(λ), decay 2 per unit of time: θ", td_lambda, 0.0),
            sampled("moments", "optimal method of moments: θ", moments, 0.0),
            sampled("naive", f"mean-square TD error, {steps} steps: θ", naive, exact),
            # −2.24 ± 0.01 is a simulation, independent of this one.
            equal("naive_golden", "and for 40 steps", expected_mean_square_td(40), -2.24, 0.01),
            order("naive_limit", "which tends to −3x₀/T: O(Δt)", lengths, errors, 1.0),
            sampled(
                "residual",
                f"squared one-step residual in the family with θx², {steps} steps: biased",
                residual,
                expected_residual(steps),
            ),
            order(
                "residual_limit",
                "which tends to a wrong limit, O(Δt)",
                lengths[3:],
                [expected_residual(n) - residual_limit() for n in counts[3:]],
                1.0,
            ),
            sampled("residual_right", "TD(0) in that family", right, 0.0),
        ),
        plot=Plot(
            "Estimates of θ, whose truth is 0",
            "steps",
            "θ",
            (
                *(
                    Series(name, list(small), [e.mean for e in found], [e.stderr for e in found])
                    for name, found in curve.items()
                ),
                power("−3x₀/T", list(small), WRONG, 0.0),
            ),
            log_x=True,
        ),
    )
