"""Policy gradient in continuous time, and how its variance depends on exploration and steps."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ctcontrol import Estimate, EulerMaruyama, TimeGrid, simulate
from ctcontrol.advantages import AdvantageEstimator, ItoAdvantage, TemporalDifferenceAdvantage
from ctcontrol.exact.lq import (
    FixedLinearGaussianPolicy,
    LinearGaussianLaw,
    LQProblem,
    StationaryLQ,
)
from validation._problems import (
    central,
    correction,
    gaussian_tilt,
    seeded,
    two_state_law,
    two_states,
)
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    equal,
    pick,
    rate,
    sampled,
)


def samples(
    covariance: float, steps: int, batch: int, estimator: AdvantageEstimator, *, chain: bool
) -> Tensor:
    """∂J/∂offset by likelihood ratios, one a path: Σ e^{−ρt}(a − μ)/Σ · rate · Δ, (batch,)."""
    lq, law, grid = two_states(), two_state_law(covariance), TimeGrid.uniform(1.0, steps)
    run = simulate(
        lq.problem(), FixedLinearGaussianPolicy(law), grid, batch, generator=seeded(steps)
    )
    value = lq.chain(grid.times.numpy()).value(law) if chain else lq.value(law)
    rates = estimator(lq.problem(), EulerMaruyama(), value, run)
    discount = (-lq.discount * grid.times[:-1]).exp()[:, None]
    score = (run.actions - run.means)[..., 0] / covariance
    return (discount * score * rates * run.lengths).sum(0)


def analytic(steps: int, batch: int) -> Tensor:
    """The same with the Gaussian integral over actions done: Σ e^{−ρt}·2(Ex + e)Δ."""
    lq, law, grid = two_states(), two_state_law(0.1), TimeGrid.uniform(1.0, steps)
    run = simulate(
        lq.problem(), FixedLinearGaussianPolicy(law), grid, batch, generator=seeded(steps)
    )
    q = lq.advantage_rate(law)
    total = torch.zeros(batch, dtype=torch.float64)
    for k, t in enumerate(grid.times[:-1].tolist()):
        E, e = q.direction(t)
        slope = 2 * (run.states[k] @ torch.tensor(E[0]) + float(e[0]))
        total += np.exp(-lq.discount * t) * slope / steps
    return total


def differences() -> tuple[float, float]:
    """Largest gaps of exact gradients to finite differences: with a horizon, and without."""
    lq = two_states(temperature=0.2)
    K, k = np.array([[0.3, 0.9]]), np.array([0.2])
    stationary = StationaryLQ(two_states(temperature=0.2, discount=0.8))
    gaps = []
    for problem in (lq, stationary):
        exact = problem.gradient(LinearGaussianLaw(K, k, 0.3))
        of_gain = central(
            lambda v, p=problem: p.expected_return(LinearGaussianLaw(v, k, 0.3)), K, 3e-3
        )
        of_offset = central(
            lambda v, p=problem: p.expected_return(LinearGaussianLaw(K, v, 0.3)), k, 3e-3
        )
        gap = np.abs(exact.gain - of_gain).max(), np.abs(exact.offset - of_offset).max()
        gaps.append(float(max(gap)))
    return gaps[0], gaps[1]


def occupation_estimate(batch: int) -> tuple[Estimate, float]:
    """(1/ρ)E[∂log π q] at X_τ, τ ~ Exp(ρ), against the exact dη/dK; both for one state."""

    problem = StationaryLQ(
        LQProblem(
            A=[[0.3]],
            B=[[1.0]],
            Q=[[1.0]],
            R=[[0.5]],
            G=[[0.0]],
            volatility=0.7,
            horizon=1.0,
            initial_mean=[1.0],
            discount=0.4,
        )
    )
    K, variance = 0.9, 0.25
    law = LinearGaussianLaw([[K]], covariance=variance)
    P, closed, generator = float(problem.value(law).P[0, 0]), 0.3 - K, seeded(7)
    wait = torch.empty(batch, dtype=torch.float64).exponential_(0.4, generator=generator)
    noise = torch.randn(2, batch, dtype=torch.float64, generator=generator)
    spread = 0.49 * torch.expm1(2 * closed * wait) / (2 * closed)
    x, delta = (closed * wait).exp() + spread.sqrt() * noise[0], variance**0.5 * noise[1]
    q = -0.5 * delta**2 + 2 * delta * (0.5 * K - P) * x + 0.5 * variance
    estimate = Estimate.of(-delta * x / variance * q / 0.4)
    return estimate, float(problem.gradient(law).gain[0, 0])


def spreads(values: Sequence[Tensor]) -> tuple[list[float], list[float]]:
    """Standard deviations a path, and their standard errors."""
    stds = [float(v.std()) for v in values]
    # Var s ≈ (m4 − s⁴)/(4 n s²), for any law.
    fourth = [float(((v - v.mean()) ** 4).mean()) for v in values]
    pairs = zip(stds, fourth, values, strict=True)
    return stds, [((m - s**4) / (4 * len(v) * s**2)) ** 0.5 for s, m, v in pairs]


def check(size: Size) -> Report:
    """∇J = E∫e^{−ρt} ∇log π (q − λ log π) dt, in two forms."""
    tilt = gaussian_tilt()
    exact = tilt.gradient(correction(0.3, -0.2))
    batch = pick(size, 20_000, 200_000)
    truth = {
        n: float(
            two_states().chain(np.linspace(0, 1, n + 1)).gradient(two_state_law(0.1)).offset[0]
        )
        for n in (25, 50)
    }
    td, ito = TemporalDifferenceAdvantage(), ItoAdvantage()
    with_td = Estimate.of(samples(0.1, 25, batch, td, chain=True))
    with_q = Estimate.of(samples(0.1, 50, batch, ito, chain=False))
    with_integral = Estimate.of(analytic(50, batch))
    finite, infinite = differences()
    occupation, dK = occupation_estimate(10 * batch)

    levels, counts = (1e-4, 1e-3, 1e-2, 1e-1), (10, 20, 40, 80)
    draws = pick(size, 5_000, 50_000)
    by_level, bars = spreads([samples(c, 50, draws, td, chain=False) for c in levels])
    closed, closed_bars = spreads([samples(c, 50, draws, ito, chain=False) for c in levels[:3]])
    by_count, count_bars = spreads([samples(0.01, n, draws, td, chain=False) for n in counts])
    flat = float(analytic(50, draws).std())
    lengths = [1.0 / n for n in counts]
    return Report(
        title="Policy gradient and its variance",
        statement="∇J = E∫e^{−ρt} ∇log π (q − λ log π) dt = E∫e^{−ρt} ∇μᵀ ∂_a q(t, X, μ) dt: "
        "the second form does the Gaussian integral over actions and does not depend on Σ. "
        "Without a horizon ∇η = (1/ρ) E_d[∇log π (q − λ log π)]. With temporal differences for q "
        "the spread of one path's estimate is ∝ Σ^(−1/2) whatever Δt; with q in closed form it "
        "does not grow as Σ → 0.",
        assumptions="Gaussian policy of fixed covariance; σ free of the action.",
        source="Jia and Zhou 2022 (2111.11232); Zhao, Tang and Yao 2023 (2305.18901); "
        "docs/theory, policy gradient.",
        code=(
            "ctcontrol.exact.lq.PolicyGradient",
            "ctcontrol.PathwisePolicyGradient",
            "ctcontrol.exact.lq.StationaryLQ.gradient",
        ),
        claims=(
            equal(
                "golden_constant",
                "∂J/∂θ₀ of the score s_pre + 0.3 − 0.2x",
                exact.offset[0],
                0.19638433,
                1e-8,
            ),
            equal("golden_slope", "∂J/∂θ₁", -exact.gain[0, 0], 0.29901913, 1e-8),
            equal("finite_horizon", "∇J and finite differences, with a horizon", finite, 0, 1e-7),
            equal("infinite_horizon", "and without one", infinite, 0, 1e-7),
            sampled("occupation", "(1/ρ)E[∇log π q] at an exponential time is ∇η", occupation, dK),
            sampled(
                "temporal_differences",
                "temporal differences, the chain's V: exact on any grid",
                with_td,
                truth[25],
            ),
            sampled("closed_form", "E[∇log π q]", with_q, truth[50], 0.5 / 50),
            sampled(
                "integrated",
                "E[∂_a q] with the action integrated out",
                with_integral,
                truth[50],
                0.5 / 50,
            ),
            rate(
                "spread_in_exploration",
                "temporal differences: spread ∝ Σ^(−1/2)",
                levels,
                by_level,
                -0.5,
                0.05,
                bars,
            ),
            rate(
                "spread_in_step", "and independent of Δt", lengths, by_count, 0.0, 0.05, count_bars
            ),
            rate(
                "spread_closed_form",
                "q in closed form: spread independent of Σ",
                levels[:3],
                closed,
                0.0,
                0.05,
                closed_bars,
            ),
        ),
        plot=Plot(
            "Spread of one path's gradient estimate",
            "exploration Σ",
            "standard deviation",
            (
                Series("temporal differences", levels, by_level, bars),
                Series("q in closed form", levels[:3], closed, closed_bars),
                Series("integrated over actions", levels, [flat] * 4, reference=True),
            ),
            log_x=True,
            log_y=True,
        ),
    )
