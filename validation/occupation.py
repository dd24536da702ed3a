"""Discounted problems without a horizon: occupation laws and exponential times."""

import numpy as np
import torch

from ctcontrol import (
    Estimate,
    TimeGrid,
    occupation_mass,
    random_horizon,
    sample_occupation,
    simulate,
    without_discount,
)
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LQProblem, StationaryLQ
from validation._problems import seeded
from validation._report import Plot, Report, Series, Size, equal, order, pick, power, sampled

PULL, NOISE, DISCOUNT, START = 0.9, 0.7, 0.5, 1.2
LAW = LinearGaussianLaw([[0.0]])


def problem(horizon: float) -> LQProblem:
    """dX = −0.9X dt + 0.7 dW from 1.2, reward −X², discount 0.5; the action does nothing."""
    return LQProblem(
        A=[[-PULL]],
        B=[[1.0]],
        Q=[[1.0]],
        R=[[1.0]],
        G=[[0.0]],
        volatility=NOISE,
        horizon=horizon,
        initial_mean=[START],
        discount=DISCOUNT,
    )


def second_moment() -> float:
    """E_d[X²] = (ρx₀² + σ²)/(ρ + 2k), d normalized."""
    return (DISCOUNT * START**2 + NOISE**2) / (DISCOUNT + 2 * PULL)


def chain_moments(steps: int, dt: float) -> np.ndarray:
    """E[X²] at the nodes of the chain of Euler and Maruyama at which a step begins."""
    shrink = (1 - PULL * dt) ** (2 * np.arange(steps))
    return shrink * START**2 + NOISE**2 * dt * (1 - shrink) / (1 - (1 - PULL * dt) ** 2)


def on_the_grid(horizon: float, steps: int) -> tuple[float, float]:
    """η and E_d[X²] of the chain, exactly."""
    dt = horizon / steps
    weight = dt * np.exp(-DISCOUNT * dt * np.arange(steps))
    total = float(weight @ chain_moments(steps, dt))
    return -total, total / float(weight.sum())


def up_to_exponential_times(step: float) -> float:
    """The mean of `at_exponential_times`: ∫ρe^{−ρτ}(return of the chain up to τ)dτ.

    Three Gauss points between multiples of `step`, where the number of steps jumps.
    """
    points, weights = np.polynomial.legendre.leggauss(3)
    total = 0.0
    for n in range(1, round(50 / step)):
        for tau, w in zip((n - 0.5 + 0.5 * points) * step, 0.5 * step * weights, strict=True):
            undiscounted = -tau / n * chain_moments(n, tau / n).sum()
            total += w * DISCOUNT * np.exp(-DISCOUNT * tau) * undiscounted
    return float(total)


def at_exponential_times(rollouts: int, batch: int, step: float) -> Estimate:
    """E∫₀^τ r dt with τ ~ Exp(ρ), undiscounted; one sample a rollout, which shares its τ."""
    generator, samples = seeded(3), []
    policy, base = FixedLinearGaussianPolicy(LAW), problem(1.0).problem()
    for _ in range(rollouts):
        grid = random_horizon(DISCOUNT, step, generator=generator)
        stopped = without_discount(base, grid)
        run = simulate(stopped, policy, grid, batch, generator=generator)
        samples.append(float(run.returns().mean()))
    return Estimate.of(torch.tensor(samples))


def check(size: Size) -> Report:
    """η = E_d[r]/ρ with d normalized, the law of X at an independent time τ ~ Exp(ρ)."""
    stationary = StationaryLQ(problem(1.0))
    mean, second = stationary.occupation(LAW)
    eta = stationary.expected_return(LAW)

    horizon, steps = 16.0, pick(size, 320, 800)
    grid = TimeGrid.uniform(horizon, steps)
    run = simulate(
        problem(horizon).problem(),
        FixedLinearGaussianPolicy(LAW),
        grid,
        pick(size, 4_000, 20_000),
        generator=seeded(1),
    )
    rows = sample_occupation(run, 4, generator=seeded(2))
    drawn = (rows.x[:, 0] ** 2).reshape(4, -1).mean(0)  # the draws of a path belong together
    direct = Estimate.of(run.returns())
    eta_on_grid, second_on_grid = on_the_grid(horizon, steps)
    fine, coarse = (800, 1600, 3200), (0.08, 0.04, 0.02)
    weighed = rows.steps * rows.weight * (rows.t1 - rows.t0) * -(rows.x[:, 0] ** 2)
    step = pick(size, 0.05, 0.02)
    stopped = at_exponential_times(pick(size, 300, 3000), 20, step)

    lengths = (0.2, 0.1, 0.05, 0.025)
    masses = [
        occupation_mass(TimeGrid.uniform(40.0, round(40 / d)), DISCOUNT) - 1 / DISCOUNT
        for d in lengths
    ]
    horizons = (1.0, 2.0, 4.0, 8.0, 12.0)
    cut = [problem(h).expected_return(LAW) for h in horizons]
    tails = [abs(c - eta) for c in cut]
    decay = np.polyfit(horizons[2:], np.log(tails[2:]), 1)[0]
    return Report(
        title="Occupation laws and exponential times",
        statement="With d = ρ∫₀^∞e^{−ρt}law(X_t)dt, a probability, η(π) = E_d[r]/ρ. It is the law "
        "of X at an independent time τ ~ Exp(ρ), and E∫₀^τ r dt is the discounted return without "
        "discounting. (The unnormalized law integrates to 1/ρ.)",
        assumptions="The discount exceeds twice the growth rate of the state.",
        source="Zhao, Tang and Yao 2023 (2305.18901); docs/theory, performance difference.",
        code=(
            "ctcontrol.sample_occupation",
            "ctcontrol.random_horizon",
            "ctcontrol.exact.lq.StationaryLQ.occupation",
        ),
        claims=(
            equal(
                "golden",
                "E_d[X²] of the Ornstein–Uhlenbeck process",
                second_moment(),
                0.5260869565,
                1e-9,
            ),
            equal("lyapunov", "and from the Lyapunov equation", second[0, 0], second_moment()),
            equal("mean", "E_d[X] = ρx₀/(ρ + k)", mean[0], DISCOUNT * START / (DISCOUNT + PULL)),
            equal("identity", "η = E_d[r]/ρ", eta, -second_moment() / DISCOUNT),
            sampled(
                "drawn",
                "E_d[X²] from states drawn by e^{−ρt}",
                Estimate.of(drawn),
                second_on_grid,
            ),
            sampled(
                "weighed",
                "the weights of those rows give η",
                Estimate.of(weighed.reshape(4, -1).mean(0)),
                eta_on_grid,
            ),
            sampled("discounted", "discounted return over a long horizon", direct, eta_on_grid),
            order(
                "grid",
                "whose exact mean tends to η: O(Δt)",
                [40.0 / n for n in fine],
                [on_the_grid(40.0, n)[0] - eta for n in fine],
                1.0,
            ),
            sampled(
                "exponential",
                "undiscounted return up to τ ~ Exp(ρ)",
                stopped,
                up_to_exponential_times(step),
            ),
            order(
                "exponential_limit",
                "whose exact mean tends to η too",
                coarse,
                [up_to_exponential_times(c) - eta for c in coarse],
                1.0,
            ),
            order("mass", "mass of the grid − 1/ρ is O(Δt)", lengths, masses, 1.0),
            equal("truncation", "a horizon T loses e^{−ρT}: fitted rate", decay, -DISCOUNT, 0.02),
        ),
        plot=Plot(
            "What a finite horizon leaves out",
            "horizon T",
            "|η_T − η|",
            (
                Series("discounted return up to T", horizons, tails),
                Series(
                    "e^{−ρT}",
                    horizons,
                    [tails[-1] * float(np.exp(DISCOUNT * (12 - h))) for h in horizons],
                    reference=True,
                ),
                power("1/ρ", horizons, 1 / DISCOUNT, 0.0),
            ),
            log_y=True,
        ),
    )
