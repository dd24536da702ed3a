"""The advantage rate, and how Q collapses onto V."""

import math
from itertools import pairwise

import numpy as np
import torch

from ctcontrol import Estimate, EulerMaruyama, TimeGrid, simulate
from ctcontrol.advantages import (
    CenteredAdvantage,
    ItoAdvantage,
    TemporalDifferenceAdvantage,
)
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LQProblem, Piecewise
from validation._chains import nodes
from validation._problems import correction, gaussian_tilt, seeded, two_state_law, two_states
from validation._report import Plot, Report, Series, Size, equal, order, pick, power, rate, sampled

STATE, ACTION = np.array([0.7, -0.4]), np.array([1.1])


def held_action_value(lq: LQProblem, law: LinearGaussianLaw, dt: float) -> float:
    """Q_Δt(0, x, a): the action held for dt, the policy from then on; exactly."""
    times = np.array([0.0, dt, lq.horizon])
    K, k, spread = law.at(0.0)
    held = LinearGaussianLaw(
        Piecewise(times, np.array([0 * K, K])),
        Piecewise(times, np.array([ACTION, k])),
        Piecewise(times, np.array([0 * spread, spread])),
    )
    return float(lq.value(held).function.at(0.0)(STATE))


def diffusion_rate() -> float:
    """Largest gap between the closed form of reverse diffusions and the LQ advantage rate."""
    tilt = gaussian_tilt()
    law = correction(0.3, -0.2)
    q, value, gap = tilt.advantage_rate(law), tilt.value(law).function, 0.0
    for t, x, u in ((0.2, 0.5, -1.0), (0.5, -1.3, 0.4), (0.9, 2.0, 1.5)):
        g2, kappa, mean = tilt.schedule.intensity(1.0 - t), tilt.kl_weight, 0.3 - 0.2 * x
        slope = float(value.at(t).gradient(np.array([x]))[0])
        closed = g2 * (u - mean) * slope - 0.5 * kappa * g2 * (u**2 - mean**2)
        gap = max(gap, abs(closed - float(q(t, np.array([x]), np.array([u])))))
    return gap


def policy_average(lq: LQProblem, law: LinearGaussianLaw, t: float) -> float:
    """E_π[q − λ log π] at STATE by Gauss–Hermite quadrature over the one action."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    K, k, spread = law.at(t)
    std = math.sqrt(spread[0, 0])
    density = -0.5 * nodes**2 - math.log(std * math.sqrt(2 * math.pi))
    actions = (k - K @ STATE) + std * nodes[:, None]
    q = lq.advantage_rate(law)(t, np.tile(STATE, (len(nodes), 1)), actions)
    return float(weights @ (q - lq.temperature * density) / weights.sum())


def expected_gap(lq: LQProblem, law: LinearGaussianLaw, steps: int) -> float:
    """E of the temporal difference's rate − q, averaged over the steps of the chain.

    E_π q = 0, and the rewards of a step are what the chain's own value loses in it.
    """
    chain, value = nodes(lq, law, steps), lq.value(law).function
    own = lq.chain(np.linspace(0.0, lq.horizon, steps + 1)).value_functions(law)
    rows = zip(chain.means, chain.covariances, own, strict=True)
    ends = [*chain.times, lq.horizon]
    gap = [
        value.at(t).expectation(m, C) - f.expectation(m, C)
        for t, (m, C, f) in zip(ends, rows, strict=True)
    ]
    shrink = math.exp(-lq.discount * chain.step)
    return float(sum(shrink * b - a for a, b in pairwise(gap)) / lq.horizon)


def check(size: Size) -> Report:
    """q = ∂V/∂t + b(a)·∇V + ½tr(σσᵀ∇²V) − ρV + r; (Q_Δt − V)/Δt → q."""
    lq, law = two_states(), two_state_law(covariance=0.3)
    q, value = lq.advantage_rate(law), lq.value(law)
    steps = (0.2, 0.1, 0.05, 0.025, 0.0125)
    v, exact = float(value.function.at(0.0)(STATE)), float(q(0.0, STATE, ACTION))
    big = [held_action_value(lq, law, dt) for dt in steps]
    collapse = [(Q - v) / dt - exact for Q, dt in zip(big, steps, strict=True)]

    problem, policy, solver = lq.problem(), FixedLinearGaussianPolicy(law), EulerMaruyama()
    few = simulate(problem, policy, TimeGrid.uniform(1.0, 12), 50, generator=seeded(1))
    ito = ItoAdvantage()(problem, solver, value, few)
    centered = CenteredAdvantage()(problem, solver, value, few)
    truth = torch.stack(
        [
            torch.tensor(q(float(t), few.states[k].numpy(), few.actions[k].numpy()))
            for k, t in enumerate(few.grid.times[:-1].tolist())
        ]
    )
    mean = max(abs(policy_average(lq, law, t)) for t in (0.0, 0.4, 0.9))
    soft = abs(policy_average(two_states(temperature=0.4), law, 0.3))

    # Temporal differences against the exact V: bias O(Δt), variance of the rate ∝ 1/Δt.
    batch = pick(size, 20_000, 100_000)
    counts = (16, 32, 64, 128)
    gaps: list[Estimate] = []
    spread: list[float] = []
    for n in counts:
        run = simulate(problem, policy, TimeGrid.uniform(1.0, n), batch, generator=seeded(n))
        td = TemporalDifferenceAdvantage()(problem, solver, value, run)
        rest = td - ItoAdvantage()(problem, solver, value, run)
        gaps.append(Estimate.of(rest.mean(0)))
        spread.append(float(rest.std()))
    lengths = [1.0 / n for n in counts]
    return Report(
        title="Advantage rate and the collapse of Q onto V",
        statement="q(t, x, a) = ∂V/∂t + b(t, x, a)·∇V + ½tr(σσᵀ∇²V) − ρV + r(t, x, a) is what an "
        "action is worth per unit of time: Q_Δt = V + qΔt + O(Δt²), and E_π[q − λ log π] = 0.",
        assumptions="V is twice differentiable in x; σ does not depend on the action.",
        source="Jia and Zhou 2022 (2207.00713); docs/theory, advantage rate.",
        code=(
            "ctcontrol.advantages.ItoAdvantage",
            "ctcontrol.advantages.CenteredAdvantage",
            "ctcontrol.exact.lq.AdvantageRate",
        ),
        claims=(
            order("collapse", "(Q_Δt − V)/Δt − q is O(Δt)", steps, collapse, 1.0),
            equal(
                "ito", "Itô's formula and the matrices agree", float((ito - truth).abs().max()), 0
            ),
            equal(
                "centered",
                "the centered closed form is q itself",
                float((centered - truth).abs().max()),
                0,
            ),
            equal("mean_zero", "E_π q = 0", mean, 0),
            equal("mean_zero_soft", "E_π[q − λ log π] = 0 with temperature λ", soft, 0),
            equal(
                "diffusion",
                "reverse SDE: q = g²⟨a − μ, ∇V⟩ − ½κg²(|u|² − |u_μ|²)",
                diffusion_rate(),
                0,
            ),
            sampled(
                "td_unbiased",
                f"mean of temporal difference − q, {counts[-1]} steps, and exactly",
                gaps[-1],
                expected_gap(lq, law, counts[-1]),
            ),
            order(
                "td_bias",
                "which is O(Δt)",
                lengths[1:],
                [expected_gap(lq, law, n) for n in counts[1:]],
                1.0,
            ),
            rate(
                "td_variance",
                "std of the temporal difference's rate ∝ Δt^(−1/2)",
                lengths,
                spread,
                -0.5,
                0.05,
            ),
        ),
        plot=Plot(
            "Q_Δt collapses onto V; only the rate survives",
            "Δt",
            "|(Q_Δt − V)/Δt − q|",
            (
                Series("exact Q of a held action", steps, [abs(c) for c in collapse]),
                power("slope 1", steps, abs(collapse[-1]), 1.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
