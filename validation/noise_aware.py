"""The critic that subtracts the simulator's own noise."""

import torch
from torch import Tensor

from ctcontrol import Estimate, EulerMaruyama, TimeGrid, Trajectory, Value, simulate
from ctcontrol.advantages import ItoAdvantage, MonteCarloAdvantage, NoiseAwareAdvantage
from ctcontrol.critics import MonteCarloFit, NoiseAwareFit
from ctcontrol.exact.lq import FixedLinearGaussianPolicy
from validation._gradients import expectation
from validation._problems import seeded, two_state_law, two_states
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_most,
    pick,
    power,
    rate,
    sampled,
)


class Scaled(Value):
    """A multiple of another value: wrong, unless the factor is 1."""

    def __init__(self, value: Value, factor: float) -> None:
        super().__init__()
        self.value, self.factor = value, factor

    def at(self, t: Tensor, x: Tensor, context: object, mean: Tensor | None = None) -> Tensor:
        return self.factor * self.value.at(t, x, context, mean)


def rollout(steps: int, batch: int, covariance: float = 0.0) -> Trajectory:
    """The two-state problem under a suboptimal policy."""
    policy = FixedLinearGaussianPolicy(two_state_law(covariance))
    grid = TimeGrid.uniform(1.0, steps)
    return simulate(two_states().problem(), policy, grid, batch, generator=seeded(steps))


def spread(target: Tensor, truth: Tensor) -> float:
    """Root mean square of target − V over paths, at the first node."""
    return float((target - truth)[0].square().mean().sqrt())


def check(size: Size) -> Report:
    """Target G_k − Σ⟨∇V_old, noise⟩: mean unchanged, variance vanishing at the truth."""
    lq, law = two_states(), two_state_law()
    value, batch = lq.value(law), pick(size, 10_000, 50_000)
    steps = 40
    run = rollout(steps, batch)
    plain = MonteCarloFit().targets(value, run)
    gaps = {
        factor: Estimate.of((NoiseAwareFit().targets(Scaled(value, factor), run) - plain)[0])
        for factor in (0.3, 1.0, 3.0)
    }
    counts = (20, 40, 80, 160, 320)
    lengths, aware, monte = [1.0 / n for n in counts], [], []
    for n in counts:
        path = rollout(n, batch)
        t = torch.zeros(batch, dtype=torch.float64)
        truth = lq.chain(path.grid.times.numpy()).value(law).at(t, path.states[0], None)[None]
        aware.append(spread(NoiseAwareFit().targets(value, path), truth))
        monte.append(spread(MonteCarloFit().targets(value, path), truth))
    factors = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25)
    start = plain[0]
    t = torch.zeros(batch, dtype=torch.float64)
    exact = value.at(t, run.states[0], None)
    by_factor = [
        spread(NoiseAwareFit().targets(Scaled(value, f), run), exact[None]) for f in factors
    ]

    # Exploring policy: the advantage made of the same target.
    noisy, problem, solver = rollout(steps, batch, 0.5), lq.problem(), EulerMaruyama()
    warm = lq.value(two_state_law(0.5))
    half = Scaled(warm, 0.5)
    truth = ItoAdvantage()(problem, solver, warm, noisy)
    discount = (-lq.discount * noisy.grid.times[:-1]).exp()[:, None]
    weight = discount * (noisy.actions - noisy.means)[..., 0] / 0.5 * noisy.lengths
    # As weights of the log-likelihood gradient both are unbiased: one for the policy gradient
    # of the chain, the closed form for the same integral of the limit's ∂q/∂a.
    chain = lq.chain(noisy.grid.times.numpy())
    expected = float(chain.gradient(two_state_law(0.5)).offset[0]) - expectation(0.5, steps)

    def weighed(rates: Tensor) -> Estimate:
        return Estimate.of((weight * rates).sum(0))

    gap = weighed(NoiseAwareAdvantage()(problem, solver, half, noisy) - truth)
    both = weighed(NoiseAwareAdvantage()(problem, solver, warm, noisy) - truth)
    return_based = weighed(MonteCarloAdvantage()(problem, solver, warm, noisy) - truth)
    return Report(
        title="Noise-aware evaluation",
        statement="The simulator knows its noise. The target G_k − Σ_{j≥k}e^{−ρ(t_j−t_k)}"
        "⟨∇V_old, σΔW_j⟩ has the mean of the return to go whatever V_old is, and at V_old = V its "
        "variance is O(Δt): what is left is the second-order Itô term.",
        assumptions="V twice differentiable in x; the noise is recorded.",
        source="docs/theory, noise-aware evaluation.",
        code=("ctcontrol.critics.NoiseAwareFit", "ctcontrol.advantages.NoiseAwareAdvantage"),
        claims=(
            *(
                sampled(
                    f"unbiased_{str(factor).replace('.', '_')}",
                    f"target − return has mean 0 with V_old = {factor} V",
                    estimate,
                    0.0,
                )
                for factor, estimate in gaps.items()
            ),
            rate("vanishing", "at the truth the target's spread ∝ Δt^½", lengths, aware, 0.5, 0.05),
            rate(
                "monte_carlo",
                "the return's spread does not fall with Δt",
                lengths,
                monte,
                0.0,
                0.05,
            ),
            at_most(
                "reduction",
                "spread at 320 steps, share of the return's",
                aware[-1] / monte[-1],
                0.15,
            ),
            sampled(
                "advantage_wrong_value",
                "policy gradient less that of q, V_old = ½V",
                gap,
                expected,
            ),
            sampled("advantage", "and at the truth", both, expected),
            at_most(
                "advantage_spread",
                "where its error is a fraction of Monte Carlo's",
                both.stderr / return_based.stderr,
                0.35,
            ),
        ),
        plot=Plot(
            "Spread of the target at t = 0",
            "V_old as a multiple of V",
            "root mean square of target − V",
            (
                Series("noise-aware target", factors, by_factor),
                power("return to go", factors[1:], spread(start[None], exact[None]), 0.0),
            ),
        ),
    )
