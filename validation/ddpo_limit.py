"""DDPO is the policy gradient whose action is the step itself."""

import torch

from ctcontrol import (
    Estimate,
    EulerMaruyama,
    NoiseAbsorbingPolicy,
    TimeGrid,
    simulate,
)
from ctcontrol.advantages import TemporalDifferenceAdvantage
from validation._problems import correction, gaussian_tilt, seeded
from validation._report import Plot, Report, Series, Size, equal, order, pick, power, sampled

CONSTANT, SLOPE = 0.3, -0.2
GOLDEN = {
    10: (0.335, 0.461),
    25: (0.249, 0.353),
    50: (0.222, 0.325),
    100: (0.209, 0.312),
    400: (0.1994, 0.3016),
}


def expectation(steps: int) -> tuple[float, float]:
    """E Σ_k ∇log p(Y_{k+1}|Y_k)[V_{k+1} − V_k] − κ Σ ½β∇|Δμ|²Δ over the exact Euler chain.

    With V quadratic the Gaussian mean of one term is βΔ (1, y) V′(t_{k+1}, m(y)), m the mean of
    the step, so that only moments of the chain are needed.
    """
    tilt = gaussian_tilt()
    value = tilt.value(correction(CONSTANT, SLOPE)).function
    dt, kappa = 1.0 / steps, tilt.kl_weight
    m, v = float(tilt.initial_mean[0]), float(tilt.initial_covariance[0, 0])
    constant = slope = 0.0
    for k in range(steps):
        now = tilt.coefficients(k * dt)
        beta, after = float(now.B[0, 0]), value.at((k + 1) * dt)
        grow = 1 + dt * (float(now.A[0, 0]) + beta * SLOPE)
        push = dt * (float(now.f[0]) + beta * CONSTANT)
        # V′(m(y)) − κΔμ(y) = e0 + e1·y
        P, p = float(after.P[0, 0]), float(after.p[0])
        e0 = -2 * (P * push + p) - kappa * CONSTANT
        e1 = -2 * P * grow - kappa * SLOPE
        constant += beta * dt * (e0 + e1 * m)
        slope += beta * dt * (e0 * m + e1 * (v + m * m))
        m, v = grow * m + push, grow**2 * v + dt * beta
    return constant, slope


def simulated(steps: int, batch: int) -> tuple[Estimate, Estimate]:
    """The same by simulation, with the noise-absorbing policy of the library."""
    tilt = gaussian_tilt()
    law = correction(CONSTANT, SLOPE)
    problem, grid, solver = tilt.problem(), TimeGrid.uniform(1.0, steps), EulerMaruyama()
    score = tilt.score_policy(law)

    def mean(t: torch.Tensor, x: torch.Tensor, context: object) -> torch.Tensor:
        return score.dist(t, x, context).mean

    policy = NoiseAbsorbingPolicy(mean, problem.sde, solver, grid)  # type: ignore[arg-type]  # elementwise
    run = simulate(problem, policy, grid, batch, generator=seeded(steps), solver=solver)
    gain = TemporalDifferenceAdvantage()(problem, solver, tilt.value(law), run) * run.lengths
    x = run.states[:-1, :, 0]
    likelihood = (run.actions - run.means)[..., 0] / run.stds**2
    # Penalties inside the temporal difference are free of the action; their direct gradient is
    # κ·∂(½βΔ|Δμ|²).
    beta = torch.tensor([float(tilt.coefficients(t).B[0, 0]) for t in grid.times[:-1].tolist()])
    direct = tilt.kl_weight * beta[:, None] * run.lengths * (CONSTANT + SLOPE * x)
    inside = likelihood * gain - direct
    return Estimate.of(inside.sum(0)), Estimate.of((inside * x).sum(0))


def check(size: Size) -> Report:
    """DDPO's gradient tends to ∇J at rate 1."""
    exact = gaussian_tilt().gradient(correction(CONSTANT, SLOPE))
    truth = float(exact.offset[0]), -float(exact.gain[0, 0])
    known = {n: expectation(n) for n in GOLDEN}
    off = max(abs(a - b) for n in GOLDEN for a, b in zip(known[n], GOLDEN[n], strict=True))
    counts = (50, 100, 200, 400, 800)
    lengths = [1.0 / n for n in counts]
    errors = [[abs(e - t) for e, t in zip(expectation(n), truth, strict=True)] for n in counts]
    first, second = ([e[i] for e in errors] for i in (0, 1))
    steps = 25
    constant, slope = simulated(steps, pick(size, 20_000, 400_000))
    return Report(
        title="DDPO as a limit",
        statement="An action of covariance I/(g²Δt) and no other noise is one Euler step, so the "
        "score-function gradient of the chain, E Σ ∇log p(Y_{k+1}|Y_k)[V_{k+1} − V_k], is a policy "
        "gradient of the same family and tends to ∇J with error O(Δt).",
        assumptions="V is the continuous-time value; uniform grid.",
        source="docs/theory, DDPO as a limit.",
        code=("ctcontrol.NoiseAbsorbingPolicy", "ctcontrol.advantages.TemporalDifferenceAdvantage"),
        claims=(
            equal(
                "golden",
                "expected gradient for 10 … 400 steps, known to three digits",
                off,
                0,
                1.5e-3,
            ),
            order("rate_constant", "error of ∂J/∂θ₀ is O(Δt)", lengths, first, 1.0),
            order("rate_slope", "error of ∂J/∂θ₁ is O(Δt)", lengths, second, 1.0),
            sampled(
                "simulated_constant",
                f"simulated ∂J/∂θ₀, {steps} steps",
                constant,
                expectation(steps)[0],
            ),
            sampled(
                "simulated_slope", f"simulated ∂J/∂θ₁, {steps} steps", slope, expectation(steps)[1]
            ),
        ),
        plot=Plot(
            "DDPO's gradient tends to the policy gradient",
            "Δt",
            "error of the expected gradient",
            (
                Series("∂J/∂θ₀", lengths, first),
                Series("∂J/∂θ₁", lengths, second),
                power("slope 1", lengths, first[-1], 1.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
