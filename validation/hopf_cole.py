"""Where the logarithm makes optimal control linear, and the optimum has no variance."""

import numpy as np
import torch

from ctcontrol import Estimate, GaussianPolicy, TimeGrid, simulate
from ctcontrol.exact.hopf_cole import HopfCole, LogCosh, LogMixture, LogQuadratic
from ctcontrol.exact.lq import LQProblem
from ctcontrol.exact.tilt import GaussianMixture
from validation._log_mean import log_of_mean
from validation._problems import seeded
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_most,
    equal,
    order,
    pick,
    power,
    rate,
    sampled,
)


def two_modes(state_cost: float = 0.0) -> HopfCole:
    """h = λ log cosh 1.3x, σ = 0.8, R = 1.5, one unit of time, from x = 0.5."""
    return HopfCole(
        LogCosh([1.3]),
        volatility=0.8,
        action_cost=1.5,
        state_cost=state_cost,
        horizon=1.0,
        initial_mean=[0.5],
    )


def three_modes() -> HopfCole:
    """e^{h/λ} a mixture of three Gaussians in the plane, with a state cost."""
    mixture = GaussianMixture.of(
        [0.5, 0.2, 0.3], [[-1.0, 0.4], [1.5, -0.8], [0.2, 1.1]], [0.3, 0.4, 0.2]
    )
    return HopfCole(
        LogMixture(mixture),
        volatility=0.7,
        action_cost=1.2,
        state_cost=0.9,
        horizon=1.0,
        initial_mean=[0.1, -0.2],
    )


def hjb_residual(problem: HopfCole) -> float:
    """max |∂V/∂t + |∇V|²/(2R) − ½c|x|² + ½σ²ΔV| at random points."""
    d, many = problem.end.states, 200
    t = 0.98 * torch.rand(many, generator=seeded(1), dtype=torch.float64)
    x = torch.randn(many, d, generator=seeded(2), dtype=torch.float64)
    jet = problem.value().jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    bend = 0.5 * problem.volatility**2 * jet.hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
    rest = jet.time + (jet.gradient**2).sum(1) / (2 * problem.action_cost) + bend
    rest = rest - 0.5 * problem.state_cost * (x**2).sum(1)
    return float(rest.abs().max())


def pathwise(problem: HopfCole, steps: int, batch: int) -> tuple[float, float]:
    """Spread of h − ∫cost − ∫R u*σdW around V(0, x₀), and of the return alone."""
    grid = TimeGrid.uniform(problem.horizon, steps)
    run = simulate(
        problem.problem(), problem.optimal_policy(), grid, batch, generator=seeded(steps)
    )
    noise = problem.action_cost * (run.actions * run.innovations).sum((0, 2))
    best = problem.optimal_return()
    rest, returns = run.returns() - noise - best, run.returns() - best
    return float(rest.square().mean().sqrt()), float(returns.square().mean().sqrt())


def quadratic_gap() -> float:
    """|V(0, x₀) − J*| of the same problem by the Riccati equation."""
    end, (sigma, R, c) = LogQuadratic([0.0], 1.4), (0.8, 1.5, 0.6)
    problem = HopfCole(
        end, volatility=sigma, action_cost=R, state_cost=c, horizon=1.0, initial_mean=[0.7]
    )
    lq = LQProblem(
        A=[[0.0]],
        B=[[1.0]],
        Q=[[0.5 * c]],
        R=[[0.5 * R]],
        G=[[0.5 * 1.4 * problem.temperature]],
        volatility=sigma,
        horizon=1.0,
        initial_mean=[0.7],
    )
    return abs(problem.optimal_return() - lq.optimal_return())


def uncontrolled_weights() -> tuple[np.ndarray, np.ndarray]:
    """e^{h/λ} at the end of uncontrolled paths of two modes, and probabilities; X_T ~ N(½, 0.8²).

    A fine trapezoidal rule.
    """
    z = np.linspace(-12.0, 12.0, 1201)
    density = np.exp(-0.5 * z**2)
    return np.cosh(1.3 * (0.5 + 0.8 * z)), density / density.sum()


def check(size: Size) -> Report:
    """V = λ log E e^{h/λ}; under u* the return less its martingale is V(0, x₀), path by path."""
    problem = two_modes()
    x = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
    t = torch.full((41,), 0.3, dtype=torch.float64)
    action = problem.optimal_action(t, x, None) - 0.64 * 1.3 * torch.tanh(1.3 * x)

    batch = pick(size, 20_000, 100_000)
    run = simulate(
        problem.problem(),
        GaussianPolicy(lambda t, x, c: 0 * x),
        TimeGrid.uniform(1.0, 1),
        batch,
        generator=seeded(3),
    )
    weights = torch.cosh(1.3 * run.final[:, 0])
    free = Estimate.of(weights)
    truth = float(np.exp(problem.optimal_return() / problem.temperature))
    groups = (8, 32, 128)
    lows, many = [], (64, 128, 256)
    for n in groups:
        parts = run.final[: batch // n * n].reshape(-1, n, 1)
        estimates = [problem.free_energy_estimate(part).mean for part in parts]
        lows.append(
            Estimate.of(torch.tensor(estimates, dtype=torch.float64) - problem.optimal_return())
        )
    law = uncontrolled_weights()
    mean_weight = float(law[1] @ law[0])
    spread = float(law[1] @ law[0] ** 2) / mean_weight**2 - 1

    counts = pick(size, (10, 20, 40, 80), (10, 20, 40, 80, 160, 320))
    spreads = [pathwise(problem, n, 4_000) for n in counts]
    hard = pathwise(two_modes(0.8), counts[-1], 4_000)
    lengths = [1.0 / n for n in counts]
    return Report(
        title="Hopf–Cole: linearly solvable control",
        statement="For dX = u dt + σdW with the price ½R|u|² + ½c|x|² and λ = Rσ², e^{V/λ} solves "
        "a linear equation: V = λ log E exp(h(X_T)/λ − ∫½c|X|²/λ) over uncontrolled paths, and "
        "u* = ∇V/R. Under u* the return less ∫R u*·σdW is V(0, x₀) on every path.",
        assumptions="The action's price is the inverse of the noise; e^{h/λ} is integrable.",
        source="Kappen 2005; docs/theory, path KL.",
        code=("ctcontrol.exact.hopf_cole.HopfCole",),
        claims=(
            equal("golden", "V(0, 0.5), two modes", problem.optimal_return(), 0.7091148223, 1e-9),
            equal("action", "u* = σ²b tanh bx", float(action.abs().max()), 0),
            equal("hjb", "residual of the HJB equation, two modes", hjb_residual(problem), 0),
            equal(
                "hjb_modes",
                "three modes in the plane, with a state cost",
                hjb_residual(three_modes()),
                0,
            ),
            equal("riccati", "quadratic rewards: the Riccati equation agrees", quadratic_gap(), 0),
            equal("weights", "E e^{h/λ} over uncontrolled paths is e^{V/λ}", mean_weight, truth),
            sampled("free_energy", "and from simulated paths", free, truth),
            *(
                sampled(
                    f"low_{n}",
                    f"λ log of a mean of {n} weights is low, exactly by",
                    estimate,
                    problem.temperature * log_of_mean(*law, n),
                )
                for n, estimate in zip(groups, lows, strict=True)
            ),
            order(
                "low",
                "which is λ CV²/(2n) (1 + O(1/n))",
                [1 / n for n in many],
                [1 + 2 * n * log_of_mean(*law, n) / spread for n in many],
                1.0,
            ),
            rate(
                "no_variance",
                "return − martingale − V(0, x₀) vanishes like Δt^½",
                lengths,
                [s for s, _ in spreads],
                0.5,
                0.1,
            ),
            at_most(
                "share", "its spread, share of the return's", spreads[-1][0] / spreads[-1][1], 0.15
            ),
            at_most("share_state_cost", "and with a state cost", hard[0] / hard[1], 0.15),
        ),
        plot=Plot(
            "Spread over paths under the optimal action",
            "Δt",
            "standard deviation from V(0, x₀)",
            (
                Series("return less its martingale", lengths, [s for s, _ in spreads]),
                Series("return", lengths, [r for _, r in spreads]),
                power("slope ½", lengths, spreads[-1][0], 0.5),
            ),
            log_x=True,
            log_y=True,
        ),
    )
