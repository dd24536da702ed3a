"""The average reward of a linear-quadratic problem whose action moves the noise alone."""

import numpy as np
import torch

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.exploratory_lq import ErgodicLQ
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw
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

SLOPE, CONSTANT, VARIANCE = -0.3542486889, -0.7084973779, 0.0354248689
AVERAGES = (0.7084973779, 0.6584973779, 0.6333741715)


def without_entropy() -> ErgodicLQ:
    """The same dynamics and reward at temperature 0."""
    return ErgodicLQ(A=-1, B=0, C=0, D=1, M=2, N=2, R=1, P=1, Q=2)


def simulated(batch: int, steps: int) -> Estimate:
    """(return − V_0(X_0))/horizon of the optimum over two units of time."""
    ergodic, horizon = ErgodicLQ.jia_zhou(), 2.0
    best = ergodic.optimal_policy()
    grid = TimeGrid.uniform(horizon, steps)
    run = simulate(
        ergodic.problem(horizon), FixedLinearGaussianPolicy(best), grid, batch, generator=seeded(4)
    )
    value = ergodic.value(best, horizon)
    start = value.at(torch.zeros(batch, dtype=torch.float64), run.states[0], None)
    # The value at time 0 counts the average reward over the horizon; take that out.
    rest = start - ergodic.average_reward(best) * horizon
    return Estimate.of((run.returns() - rest) / horizon)


def expected(steps: int) -> float:
    """The mean of `simulated`, by the moments of the chain; X_0 = 0, and its mean stays there."""
    ergodic, horizon = ErgodicLQ.jia_zhou(), 2.0
    best = ergodic.optimal_policy()
    K, k, v = (float(part.item()) for part in best.at(0))
    dt, second, total = horizon / steps, 0.0, 0.0
    for _ in range(steps):
        square = K**2 * second + k**2 + v  # E u²
        total -= dt * (0.5 * 2 * second - K * second + 0.5 * 2 * square + 2 * k)
        second = (1 - dt) ** 2 * second + dt * square
    entropy = 0.5 * np.log(2 * np.pi * np.e * v)
    end = 0.5 * ergodic.value(best, horizon).k2 * second
    return float((total + end) / horizon + ergodic.temperature * entropy)


def check(size: Size) -> Report:
    """Optimum, average rewards and the cost of exploration, λ/2."""
    ergodic, cold = ErgodicLQ.jia_zhou(), without_entropy()
    best = ergodic.optimal_policy()
    K, k, v = (float(part.item()) for part in best.at(0))
    gradient = ergodic.gradient(best)
    flat = max(
        float(np.abs(p).max()) for p in (gradient.gain, gradient.offset, gradient.covariance)
    )
    other = LinearGaussianLaw([[0.1]], [-0.4], 0.3)
    change = ergodic.average_reward(other) - ergodic.average_reward(best)
    rng = np.random.default_rng(0)
    rivals = [
        LinearGaussianLaw([[K + a]], [k + b], v * np.exp(c))
        for a, b, c in rng.uniform(-0.5, 0.5, (200, 3))
    ]
    steps, fine = pick(size, 100, 400), (100, 200, 400)
    seen = simulated(pick(size, 20_000, 50_000), steps)
    levels = (0.4, 0.2, 0.1, 0.05, 0.025)
    costs = [_cost(level) for level in levels]
    shifts = (0.2, 0.1, 0.05, 0.025)
    lost = [
        ergodic.average_reward(best) - ergodic.average_reward(LinearGaussianLaw([[K + s]], [k], v))
        for s in shifts
    ]
    return Report(
        title="Ergodic linear-quadratic control",
        statement="dX = −X dt + u dW with reward −(x² + xu + u² + x + 2u) and temperature λ = 0.1: "
        "the optimum is N(−0.354x − 0.708, 0.0354); exploring costs λ/2 of average reward.",
        assumptions="The closed loop has a stationary second moment.",
        source="Jia and Zhou 2022 (2111.11232), the instance of its experiments; "
        "docs/theory, exploratory linear-quadratic problems.",
        code=("ctcontrol.exact.exploratory_lq.ErgodicLQ",),
        claims=(
            equal("slope", "slope of the optimum", -K, SLOPE, 1e-9),
            equal("constant", "its constant", k, CONSTANT, 1e-9),
            equal("variance", "its variance", v, VARIANCE, 1e-9),
            equal(
                "with_entropy",
                "its average reward, entropy included",
                ergodic.optimal_average_reward(),
                AVERAGES[2],
                1e-9,
            ),
            equal(
                "without",
                "best average reward without exploration",
                cold.optimal_average_reward(),
                AVERAGES[0],
                1e-9,
            ),
            equal(
                "reward_alone",
                "reward alone of the exploring optimum",
                cold.average_reward(best),
                AVERAGES[1],
                1e-9,
            ),
            rate("cost", "cost of exploration ∝ λ", levels, costs, 1.0, 1e-9),
            equal("cost_is_half", "and is λ/2", costs[2], 0.05),
            equal("gradient", "gradient at the optimum", flat, 0),
            order("quadratic", "regret of a wrong gain ∝ its square", shifts, lost, 2.0),
            at_most(
                "rivals",
                "200 policies around it: the best, above the optimum",
                max(ergodic.average_reward(r) for r in rivals) - ergodic.optimal_average_reward(),
                0.0,
            ),
            equal(
                "difference",
                "performance difference identity",
                ergodic.performance_difference(best, other),
                change,
            ),
            sampled(
                "simulated",
                f"simulated average reward over two units of time, {steps} steps, and exactly",
                seen,
                expected(steps),
            ),
            order(
                "grid",
                "which tends to it: O(Δt)",
                [2.0 / n for n in fine],
                [expected(n) - ergodic.optimal_average_reward() for n in fine],
                1.0,
            ),
        ),
        plot=Plot(
            "What exploration costs",
            "temperature λ",
            "average reward lost",
            (
                Series("optimum of each temperature", levels, costs),
                power("λ/2", levels, levels[-1] / 2, 1.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )


def _cost(temperature: float) -> float:
    """Average reward alone: the best, less that of the optimum of this temperature."""
    warm = ErgodicLQ(A=-1, B=0, C=0, D=1, M=2, N=2, R=1, P=1, Q=2, temperature=temperature)
    cold = without_entropy()
    return cold.optimal_average_reward() - cold.average_reward(warm.optimal_policy())
