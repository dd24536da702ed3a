"""Exploratory optima, and what exploration costs."""

import math

import numpy as np

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.exploratory_lq import ExploratoryLQ
from ctcontrol.exact.lq import LinearGaussianLaw, LQProblem, StationaryLQ
from ctcontrol.exact.portfolio import (
    Fraction,
    FractionPolicy,
    InvestmentPolicy,
    MeanVariance,
    MertonLog,
)
from validation._problems import seeded, two_states
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    equal,
    pick,
    power,
    rate,
    sampled,
)

WZZ = {"A": -0.4, "B": 0.8, "C": 0.3, "D": 0.5, "M": 1.2, "N": 1.0, "R": 0.2, "P": 0.3, "Q": -0.1}


def wzz(temperature: float = 0.25) -> ExploratoryLQ:
    """dX = (−0.4X + 0.8u)dt + (0.3X + 0.5u)dW, discount 0.6, from X_0 = 0.8."""
    return ExploratoryLQ(**WZZ, discount=0.6, temperature=temperature, initial_mean=0.8)


def merton(temperature: float = 0.02) -> MertonLog:
    """μ = 0.12, r = 0.03, σ = 0.25 over one year."""
    return MertonLog(drift=0.12, rate=0.03, volatility=0.25, horizon=1.0, temperature=temperature)


def mean_variance(temperature: float = 0.1) -> MeanVariance:
    """From wealth 1 to 1.4 in a year with Sharpe ratio 1 and volatility 0.2."""
    return MeanVariance(
        sharpe=1.0, volatility=0.2, horizon=1.0, initial_wealth=1.0, target=1.4,
        temperature=temperature,
    )  # fmt: skip


def log_gap(problem: ExploratoryLQ, law: LinearGaussianLaw) -> float:
    """|q* − λ log π*| on a grid of states and actions."""
    x, u = np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-2, 2, 9))
    K, k, v = (float(part.item()) for part in law.at(0))
    density = -0.5 * ((u - k + K * x) ** 2 / v + math.log(2 * math.pi * v))
    return float(np.abs(problem.advantage_rate(law)(x, u) - problem.temperature * density).max())


def stationary_cost(temperature: float) -> float:
    """Reward alone lost by the entropy-regularized optimum; σ free of the action."""

    def problem(heat: float) -> StationaryLQ:
        base: LQProblem = two_states(discount=0.8, temperature=heat)
        return StationaryLQ(base)

    cold = problem(0.0)
    best = cold.expected_return(cold.optimal_policy())
    return best - cold.expected_return(problem(temperature).optimal_policy())


def growth(variance: float, steps: int, batch: int) -> Estimate:
    """E log X_T of the Merton problem with this exploration; exact at any step."""
    market = merton(0.0)
    policy = FractionPolicy(Fraction(market.optimal_policy().mean, variance))
    grid = TimeGrid.uniform(1.0, steps)
    run = simulate(market.log_problem(), policy, grid, batch, generator=seeded(steps))
    return Estimate.of(run.final)


def check(size: Size) -> Report:
    """Optimal Gaussian policies and the price of their randomness."""
    problem, law = wzz(), wzz().optimal_policy()
    K, k, v = (float(part.item()) for part in law.at(0))
    cold = wzz(0.0)
    lost = cold.optimal_return() - cold.expected_return(law)
    levels = (0.4, 0.2, 0.1, 0.05)
    costs = [
        wzz(0.0).optimal_return() - wzz(0.0).expected_return(wzz(t).optimal_policy())
        for t in levels
    ]
    stationary = [stationary_cost(t) for t in levels]

    market, best = merton(), merton().optimal_policy()
    variances = (0.08, 0.16, 0.32, 0.64)
    growths = [merton(0.0).growth(best_of) for best_of in (Fraction(1.44, s) for s in variances)]
    coarse, fine = (growth(0.64, n, pick(size, 20_000, 50_000)) for n in (4, 64))
    truth = merton(0.0).growth(Fraction(1.44, 0.64))

    fund = mean_variance()
    invest = fund.optimal_policy()
    mean, variance = fund.terminal_moments(invest)
    steps = pick(size, 100, 400)
    run = simulate(
        fund.problem(),
        InvestmentPolicy(invest, fund.w, fund.horizon),
        TimeGrid.uniform(1.0, steps),
        pick(size, 20_000, 50_000),
        generator=seeded(8),
    )
    still = mean_variance(0.0)
    extra = variance - still.terminal_moments(still.optimal_policy())[1]
    return Report(
        title="Exploratory optima and the cost of exploration",
        statement="With an entropy bonus λ∫H dt the optimum is Gaussian, π* ∝ e^{q*/λ}. Its "
        "randomness costs λm/(2ρ) of discounted reward, λT/2 for mean-variance, whatever the "
        "dynamics. Where the action moves the noise, exploration of variance s² costs at order one "
        "at any step size: ½σ²s² of Merton's growth.",
        assumptions="Strictly concave rewards; finite returns.",
        source="Wang, Zariphopoulou and Zhou 2020 (1812.01552); Wang and Zhou 2020 (1904.11392); "
        "docs/theory, exploratory linear-quadratic problems, portfolios.",
        code=(
            "ctcontrol.exact.exploratory_lq.ExploratoryLQ",
            "ctcontrol.exact.portfolio.MertonLog",
            "ctcontrol.exact.portfolio.MeanVariance",
        ),
        claims=(
            equal(
                "wzz_curvature",
                "controlled volatility: k₂",
                problem.coefficients(law).k2,
                -0.5585074649,
                1e-9,
            ),
            equal("wzz_gain", "gain of the optimum", -K, -0.64107, 6e-6),
            equal("wzz_constant", "its constant", k, -0.0812, 6e-6),
            equal("wzz_variance", "its variance λ/(N − k₂D²)", v, 0.21937, 6e-6),
            equal("wzz_value", "V(0.8)", problem.optimal_return(), -0.2981501, 1e-7),
            equal("wzz_gibbs", "q* = λ log π*", log_gap(problem, law), 0),
            equal("wzz_cost", "cost of exploration λ/(2ρ)", lost, 0.2083333333, 1e-9),
            rate("wzz_linear", "∝ λ", levels, costs, 1.0, 1e-9),
            equal("lq_cost", "action-free volatility: λ/(2ρ) too", stationary[0], 0.4 / 1.6, 1e-9),
            equal("merton_mean", "Merton: fraction in the risky asset", best.mean, 1.44),
            equal("merton_variance", "its variance λ/σ²", best.variance, 0.32),
            equal(
                "merton_rate",
                "growth and entropy of the optimum",
                market.reward_rate(best),
                0.1017844278,
                1e-9,
            ),
            equal(
                "merton_growth",
                "growth without exploration",
                merton(0.0).growth(Fraction(1.44, 0.0)),
                0.0948,
            ),
            rate(
                "merton_cost",
                "growth lost ∝ variance of the action",
                variances,
                [0.0948 - g for g in growths],
                1.0,
                1e-9,
            ),
            sampled("merton_coarse", "simulated growth, 4 steps, variance 0.64", coarse, truth),
            sampled("merton_fine", "64 steps: the cost does not go away", fine, truth),
            equal("mv_mean", "mean-variance: E X_T is the target", mean, 1.4),
            equal("mv_cost", "extra variance from exploration λT/2", extra, 0.05),
            equal(
                "mv_least",
                "variance without it (z − x₀)²/(e^{ϱ²T} − 1)",
                variance - extra,
                0.16 / math.expm1(1.0),
            ),
            sampled(
                "mv_simulated",
                f"simulated E X_T, {steps} steps: w + (x₀ − w)(1 − ϱ²Δ)ⁿ",
                Estimate.of(run.final),
                fund.w + (1.0 - fund.w) * (1 - 1 / steps) ** steps,
            ),
        ),
        plot=Plot(
            "Cost of exploration",
            "temperature λ",
            "reward lost",
            (
                Series("controlled volatility, ρ = 0.6", levels, costs),
                Series("action-free volatility, ρ = 0.8", levels, stationary),
                power("λ/(2ρ), ρ = 0.6", levels, levels[-1] / 1.2, 1.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
