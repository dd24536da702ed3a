"""Performance difference, the regret identity, and policy iteration as Newton's method."""

import numpy as np
import torch

from ctcontrol import Estimate, EulerMaruyama, TimeGrid, simulate
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LQProblem, StationaryLQ
from validation._chains import advantage
from validation._problems import correction, gaussian_tilt, seeded, two_state_law, two_states
from validation._report import Plot, Report, Series, Size, equal, order, pick, rate, sampled

PI_REGRETS = (0.1079, 0.004419, 7.143e-06, 9.44e-12)
"""Four digits: half a unit of the last is 5e-4 of the number at most."""


def random_problem(seed: int) -> tuple[LQProblem, LinearGaussianLaw, LinearGaussianLaw]:
    """A random system of one to five states, and two policies."""
    rng = np.random.default_rng(seed)
    d, m = int(rng.integers(1, 6)), int(rng.integers(1, 4))

    def square(n: int) -> np.ndarray:
        root = rng.normal(size=(n, n))
        return root @ root.T / n

    problem = LQProblem(
        A=rng.normal(size=(d, d)) / d**0.5,
        B=rng.normal(size=(d, m)),
        Q=square(d),
        R=square(m) + 0.2 * np.eye(m),
        G=square(d),
        volatility=rng.normal(size=(d, d)) * 0.5,
        horizon=1.0,
        initial_mean=rng.normal(size=d),
        initial_covariance=square(d),
        discount=2.5,
        temperature=0.3,
    )
    laws = [
        LinearGaussianLaw(
            0.4 * rng.normal(size=(m, d)), rng.normal(size=m), square(m) + 0.1 * np.eye(m)
        )
        for _ in range(2)
    ]
    return problem, laws[0], laws[1]


def largest_gaps(count: int) -> tuple[float, float]:
    """|J(π′) − J(π) − E^{π′}∫q^π| relative to J, with a horizon and without, random systems."""
    finite = infinite = 0.0
    for seed in range(count):
        problem, law, other = random_problem(seed)
        both = problem.expected_return(law), problem.expected_return(other)
        gap = abs(problem.performance_difference(law, other) - (both[1] - both[0]))
        finite = max(finite, gap / max(1.0, *map(abs, both)))
        calm = np.linalg.eigvals(problem.A - problem.B @ law.gain(0)).real.max() < 1
        calm &= np.linalg.eigvals(problem.A - problem.B @ other.gain(0)).real.max() < 1
        if calm:
            stationary = StationaryLQ(problem)
            both = stationary.expected_return(law), stationary.expected_return(other)
            gap = abs(stationary.performance_difference(law, other) - (both[1] - both[0]))
            infinite = max(infinite, gap / max(1.0, *map(abs, both)))
    return finite, infinite


def regrets(steps: int) -> list[float]:
    """κ KL(P^θ‖P*) along policy iteration μ′ = s_pre + ∇V^θ/κ; exact down to rounding squared."""
    tilt, law = gaussian_tilt(), correction(0.3, -0.2)
    best, out = tilt.optimal_policy(), []
    for _ in range(steps):
        out.append(tilt.kl_weight * tilt.path_kl(law, best))
        value = tilt.value(law).function
        law = LinearGaussianLaw(
            lambda t, v=value: 2 * v.at(t).P / tilt.kl_weight,
            lambda t, v=value: -2 * v.at(t).p / tilt.kl_weight,
        )
    return out


def newton(distance: float) -> tuple[float, float]:
    """Regrets of a policy at this distance from the optimum, and after a step."""
    tilt = gaussian_tilt()
    best = tilt.optimal_policy()
    law = LinearGaussianLaw(
        lambda t: best.gain(t) + 0.5 * distance, lambda t: best.offset(t) + 0.6 * distance
    )
    return tilt.kl_weight * tilt.path_kl(law, best), tilt.kl_weight * tilt.path_kl(
        tilt.improved(law), best
    )


def along_the_new(batch: int, steps: int) -> tuple[Estimate, float]:
    """E^{π′}Σ e^{−ρt}q^πΔ by simulation of π′, and exactly."""
    lq, old, new = two_states(), two_state_law(), two_state_law(shift=0.6)
    grid = TimeGrid.uniform(1.0, steps)
    run = simulate(
        lq.problem(), FixedLinearGaussianPolicy(new), grid, batch,
        generator=seeded(2), solver=EulerMaruyama(),
    )  # fmt: skip
    q = lq.advantage_rate(old)
    total = torch.zeros(batch, dtype=torch.float64)
    for k, t in enumerate(grid.times[:-1].tolist()):
        rates = q(t, run.states[k].numpy(), run.actions[k].numpy())
        total += np.exp(-lq.discount * t) * torch.tensor(rates) / steps
    return Estimate.of(total), advantage(q, lq, new, steps)


def check(size: Size) -> Report:
    """J(π′) − J(π) = E^{π′}∫e^{−ρt}q^π dt, and what follows from it."""
    tilt, first, second = gaussian_tilt(), correction(0.3, -0.2), correction(0.9, 0.1)
    difference = tilt.expected_return(second) - tilt.expected_return(first)
    best = tilt.optimal_return()
    regret = best - tilt.expected_return(first)
    certificate = tilt.kl_weight * tilt.path_kl(first, tilt.optimal_policy())
    steps = pick(size, 100, 400)
    seen, truth = along_the_new(pick(size, 10_000, 50_000), steps)
    lq, old, new = two_states(), two_state_law(), two_state_law(shift=0.6)
    gain, fine = lq.expected_return(new) - lq.expected_return(old), (100, 200, 400)
    on_grids = [advantage(lq.advantage_rate(old), lq, new, n) for n in fine]
    finite, infinite = largest_gaps(pick(size, 8, 60))
    path = regrets(4)
    near = [newton(distance) for distance in (0.4, 0.2, 0.1, 0.05)]
    step = tilt.improved(first)
    proximal = 0.5 * tilt.kl_weight * 2 * tilt.path_kl(step, first)
    gained = tilt.expected_return(step) - tilt.expected_return(first)
    golden = max(abs(a / b - 1) for a, b in zip(path[:3], PI_REGRETS, strict=False))
    return Report(
        title="Performance difference and policy iteration",
        statement="J(π′) − J(π) = E^{π′}∫e^{−ρt} E_{π′}[q^π − λ log π′] dt. With a KL penalty it "
        "gives the regret J* − J(θ) = κ KL(P^θ‖P*), and that μ′ = s_pre + ∇V^θ/κ gains exactly "
        "κ KL(P^{θ′}‖P^θ): policy iteration is Newton's method for the HJB equation.",
        assumptions="Same start; σ free of the action; the HJB equation has a solution.",
        source="Zhao, Tang and Yao 2023 (2305.18901); docs/theory, performance difference, prox.",
        code=(
            "ctcontrol.exact.lq.LinearQuadraticSystem.performance_difference",
            "ctcontrol.exact.lq.StationaryLQ.performance_difference",
            "ctcontrol.exact.tilt.GaussianTilt.improved",
        ),
        claims=(
            equal("golden", "J(0.9 + 0.1x) − J(0.3 − 0.2x)", difference, -0.909956797, 1e-9),
            equal(
                "identity",
                "as an integral of q^θ along θ′",
                tilt.performance_difference(first, second),
                difference,
            ),
            equal("random_finite", "random systems with a horizon", finite, 0),
            equal("random_infinite", "random systems without one", infinite, 0),
            sampled("simulated", f"E^{{π′}}Σq^πΔ by simulation, {steps} steps", seen, truth),
            order(
                "grid",
                "which differs from J(π′) − J(π) by O(Δt)",
                [1.0 / n for n in fine],
                [e - gain for e in on_grids],
                1.0,
            ),
            equal("best", "J*", best, 0.718416998162, 1e-10),
            equal("regret", "J* − J(θ) = κ KL(P^θ‖P*)", regret, certificate),
            equal("regret_golden", "regret of 0.3 − 0.2x", regret, 0.107904679304, 1e-10),
            equal(
                "gain_of_a_step",
                "a step of policy iteration gains κ KL(P^θ′‖P^θ)",
                gained,
                proximal,
            ),
            equal("iteration_golden", "regrets of policy iteration, relative", golden, 0, 5e-4),
            rate(
                "quadratic",
                "near the optimum: regret after a step ∝ square of the regret before",
                [before for before, _ in near],
                [after for _, after in near],
                2.0,
                0.01,
            ),
        ),
        plot=Plot(
            "Regret of policy iteration",
            "iteration",
            "J* − J",
            (
                Series("policy iteration", (0, 1, 2, 3), path),
                Series("regret squared each time", (0, 1, 2, 3), _squared(path[0], path[1])),
            ),
            log_y=True,
        ),
    )


def _squared(first: float, second: float) -> list[float]:
    """x₀, x₁ and then x_{k+1} = (x₁/x₀²) x_k²."""
    out = [first, second]
    for _ in range(2):
        out.append(second / first**2 * out[-1] ** 2)
    return out
