"""Policy gradient in continuous time, in both its forms."""

import numpy as np
import torch

from ctcontrol import Estimate
from ctcontrol.advantages import ItoAdvantage, TemporalDifferenceAdvantage
from ctcontrol.exact.lq import (
    LinearGaussianLaw,
    LQProblem,
    StationaryLQ,
)
from validation._gradients import analytic, expectation, samples
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
    order,
    pick,
    sampled,
)


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


def check(size: Size) -> Report:
    """∇J = E∫e^{−ρt} ∇log π (q − λ log π) dt, in two forms."""
    tilt = gaussian_tilt()
    exact = tilt.gradient(correction(0.3, -0.2))
    batch = pick(size, 20_000, 100_000)
    truth = {
        n: float(
            two_states().chain(np.linspace(0, 1, n + 1)).gradient(two_state_law(0.1)).offset[0]
        )
        for n in (10, 25, 50)
    }
    td, ito = TemporalDifferenceAdvantage(), ItoAdvantage()
    with_q = Estimate.of(samples(0.1, 50, batch, ito, chain=False))
    with_integral = Estimate.of(analytic(0.1, 50, batch))
    on_the_grid = expectation(0.1, 50)
    finite, infinite = differences()
    occupation, dK = occupation_estimate(10 * batch)

    counts, fine = (10, 25, 50), (100, 200, 400)
    found = [Estimate.of(samples(0.1, n, batch, td, chain=True)) for n in counts]
    limit = float(two_states().gradient(two_state_law(0.1)).offset[0])
    return Report(
        title="Policy gradient",
        statement="∇J = E∫e^{−ρt} ∇log π (q − λ log π) dt = E∫e^{−ρt} ∇μᵀ ∂_a q(t, X, μ) dt: "
        "the second form does the Gaussian integral over actions and does not depend on Σ. "
        "Without a horizon ∇η = (1/ρ) E_d[∇log π (q − λ log π)].",
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
                found[1],
                truth[25],
            ),
            sampled("closed_form", "E[∇log π q], 50 steps", with_q, on_the_grid),
            sampled(
                "integrated",
                "E[∂_a q] with the action integrated out",
                with_integral,
                on_the_grid,
            ),
            order(
                "limit",
                "which tends to ∇J: the gap is O(Δt)",
                [1.0 / n for n in fine],
                [expectation(0.1, n) - limit for n in fine],
                1.0,
            ),
        ),
        plot=Plot(
            "∂J/∂offset by temporal differences of the chain's value",
            "steps",
            "gradient",
            (
                Series("simulated", counts, [e.mean for e in found], [e.stderr for e in found]),
                Series("exact, of the chain", counts, [truth[n] for n in counts]),
                Series("exact, continuous time", counts, [limit] * 3, reference=True),
            ),
        ),
    )
