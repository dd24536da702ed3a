"""Relaxed dynamics: what drawing the action once a step changes."""

import numpy as np

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.lq import FixedLinearGaussianPolicy
from validation._problems import seeded, two_state_law, two_states
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_least,
    equal,
    order,
    pick,
    power,
    rate,
    sampled,
)


def excess(covariance: float, steps: int) -> float:
    """Variance of X_T[1] beyond that of the same grid without exploration; exact."""
    chain = two_states().chain(np.linspace(0.0, 1.0, steps + 1))
    noisy, quiet = (chain.moments(two_state_law(c))[1][-1] for c in (covariance, 0.0))
    return float((noisy - quiet)[1, 1])


def return_gap(covariance: float, steps: int) -> float:
    """J of the chain with drawn actions − J of the relaxed dynamics, less that of mean actions."""
    lq = two_states()
    chain = lq.chain(np.linspace(0.0, 1.0, steps + 1))

    def gap(c: float) -> float:
        return chain.expected_return(two_state_law(c)) - lq.expected_return(two_state_law(c))

    return gap(covariance) - gap(0.0)


def check(size: Size) -> Report:
    """Action noise enters the law of X only through the grid: variance ∝ ΣΔt."""
    counts, levels = (10, 20, 40, 80, 160), (0.1, 0.3, 1.0, 3.0)
    lengths = [1.0 / n for n in counts]
    lq = two_states()
    by_step = [excess(1.0, n) for n in counts]
    by_level = [excess(c, 50) for c in levels]
    value_step = [return_gap(1.0, n) for n in counts]
    value_level = [return_gap(c, 50) for c in levels]
    relaxed = [lq.moments(two_state_law(c)).covariance(1.0) for c in (0.0, 3.0)]

    steps, batch = 25, pick(size, 20_000, 400_000)
    loud, grid = two_state_law(9.0), TimeGrid.uniform(1.0, 25)
    run = simulate(lq.problem(), FixedLinearGaussianPolicy(loud), grid, batch, generator=seeded(11))
    means, covariances = lq.chain(grid.times.numpy()).moments(loud)
    centered = (run.final[:, 1] - means[-1][1]) ** 2
    exact = float(lq.moments(loud).covariance(1.0)[1, 1])
    seen = Estimate.of(centered)
    return Report(
        title="Sampled actions and the relaxed dynamics",
        statement="Where σ does not depend on the action, exploration leaves the law of the "
        "relaxed SDE alone. An action drawn at each node and held adds the variance B Σ Bᵀ Δt² a "
        "step, so variance and value err by O(ΣΔt).",
        assumptions="Drift affine in the action, action-free volatility, uniform grid.",
        source="Wang, Zariphopoulou and Zhou 2020 (1812.01552); docs/theory, relaxed dynamics.",
        code=("ctcontrol.exact.lq.EulerMaruyamaChain", "ctcontrol.simulate"),
        claims=(
            equal(
                "relaxed_law",
                "exploration leaves Var X_T alone",
                float(np.abs(np.subtract(*relaxed)).max()),
                0,
            ),
            order("variance_in_step", "excess variance of X_T ∝ Δt", lengths, by_step, 1.0),
            rate(
                "variance_in_exploration", "excess variance of X_T ∝ Σ", levels, by_level, 1.0, 1e-9
            ),
            order("value_in_step", "bias of the return ∝ Δt", lengths, value_step, 1.0),
            rate("value_in_exploration", "bias of the return ∝ Σ", levels, value_level, 1.0, 1e-9),
            sampled(
                "simulated_variance",
                f"simulated Var X_T with Σ = 9, {steps} steps, is the chain's",
                seen,
                float(covariances[-1][1, 1]),
            ),
            at_least(
                "not_relaxed",
                "and is not that of the relaxed dynamics",
                seen.mean,
                exact + 0.09,
                seen.stderr,
            ),
        ),
        plot=Plot(
            "What a held random action adds to Var X_T",
            "Δt",
            "excess variance",
            (
                Series("Σ = 1", lengths, by_step),
                Series("Σ = 0.1", lengths, [excess(0.1, n) for n in counts]),
                power("slope 1", lengths, by_step[-1], 1.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
