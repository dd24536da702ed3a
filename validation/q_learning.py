"""The martingale that characterizes q, on and off policy."""

import numpy as np
import torch
from torch import Tensor

from ctcontrol import Estimate, EulerMaruyama, QLearning, TimeGrid, simulate
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LQProblem
from validation._problems import seeded, two_state_law, two_states
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_least,
    equal,
    pick,
    power,
    rate,
    sampled,
)


def warm() -> LQProblem:
    """The two-state problem with temperature 0.4."""
    return two_states(temperature=0.4)


def log_density(law: LinearGaussianLaw, t: float, x: Tensor, u: Tensor) -> Tensor:
    """log π(u | t, x) of one action, (batch,)."""
    K, k, spread = (torch.tensor(part) for part in law.at(t))
    gap = (u - (k - x @ K.mT))[:, 0]
    return -0.5 * (gap**2 / spread[0, 0] + torch.log(2 * torch.pi * spread[0, 0]))


def moments(steps: int, batch: int, shift: float = 0.0) -> tuple[Estimate, Estimate, Estimate]:
    """E Σ e^{−ρt} ξ E[δ | x, a] for ξ = |x|², ∂log π* and for the drawn δ; off policy.

    δ = e^{−ρΔ}V′ − V + (r − q)Δ with the optimal V and q = λ log π*, along a behavior that is
    neither optimal nor of the right variance. The noise of the step is integrated out in the
    first two, which leaves little to sample; `shift` makes q wrong.
    """
    lq = warm()
    best, behavior = lq.optimal_policy(), two_state_law(covariance=0.8)
    value, problem, grid = lq.value(best), lq.problem(), TimeGrid.uniform(1.0, steps)
    run = simulate(
        problem, FixedLinearGaussianPolicy(behavior), grid, batch, generator=seeded(steps)
    )
    drawn = QLearning().signal(problem, EulerMaruyama(), value, run)
    dt, totals = 1.0 / steps, torch.zeros(3, batch, dtype=torch.float64)
    A, B = torch.tensor(lq.A), torch.tensor(lq.B)
    for k, t in enumerate(grid.times[:-1].tolist()):
        x, u = run.states[k], run.actions[k]
        q = lq.temperature * log_density(best, t, x, u) + shift
        center = x + dt * (x @ A.mT + u @ B.mT)
        after = value.function.at(t + dt)
        mean = torch.tensor(after(center.numpy())) - dt * float(np.sum(after.P * lq.diffusion))
        before = torch.tensor(value.function.at(t)(x.numpy()))
        delta = np.exp(-lq.discount * dt) * mean - before + (run.rewards[k] - q) * dt
        K, offset, spread = (torch.tensor(part) for part in best.at(t))
        zeta = (u - (offset - x @ K.mT))[:, 0] / spread[0, 0]
        now, square = np.exp(-lq.discount * t), (x**2).sum(1)
        totals[0] += now * square * delta
        totals[1] += now * zeta * delta
        totals[2] += now * square * (drawn[k] - q * dt - delta)
    return Estimate.of(totals[0]), Estimate.of(totals[1]), Estimate.of(totals[2])


def gibbs(lq: LQProblem, law: LinearGaussianLaw) -> LinearGaussianLaw:
    """π′ ∝ e^{q^π/λ}: mean −Kx + k + R⁻¹(Ex + e), covariance λ/2 R⁻¹."""
    q = lq.advantage_rate(law)

    def push(t: float) -> tuple[np.ndarray, np.ndarray]:
        E, e = q.direction(t)
        return np.linalg.solve(lq.R, E), np.linalg.solve(lq.R, e)

    return LinearGaussianLaw(
        lambda t: law.gain(t) - push(t)[0],
        lambda t: law.offset(t) + push(t)[1],
        0.5 * lq.temperature * np.linalg.inv(lq.R),
    )


def newton(lq: LQProblem, distance: float) -> tuple[float, float]:
    """Regrets of a policy at this distance from the optimum, and of the one that follows it."""
    best = lq.optimal_policy()
    law = LinearGaussianLaw(
        lambda t: best.gain(t) + distance * np.array([[0.3, -0.2]]),
        lambda t: best.offset(t) + 0.25 * distance,
        best.covariance,
    )
    most = lq.optimal_return()
    return most - lq.expected_return(law), most - lq.expected_return(gibbs(lq, law))


def largest_q_gap(lq: LQProblem) -> float:
    """|q* − λ log π*| at some points."""
    best, gap = lq.optimal_policy(), 0.0
    q = lq.advantage_rate(best)
    for t, x, u in ((0.1, (0.5, -1.0), 0.3), (0.6, (-1.2, 0.4), -0.8), (0.95, (0.1, 2.0), 1.0)):
        state, action = torch.tensor([x]).double(), torch.tensor([[u]]).double()
        truth = lq.temperature * float(log_density(best, t, state, action))
        gap = max(gap, abs(float(q(t, state[0].numpy(), action[0].numpy())) - truth))
    return gap


def check(size: Size) -> Report:
    """(J, q) is the optimal pair iff e^{−ρt}J + ∫(r − q)du is a martingale, along any policy."""
    lq, batch = warm(), pick(size, 20_000, 50_000)
    counts = (25, 50, 100, 200)
    found = [moments(n, batch) for n in counts]
    lengths = [1.0 / n for n in counts]
    wrong = moments(100, batch, shift=0.3)[0]
    law = two_state_law(covariance=0.8)
    returns = [lq.expected_return(law)]
    for _ in range(3):
        law = gibbs(lq, law)
        returns.append(lq.expected_return(law))
    near = [newton(lq, distance) for distance in (1.6, 0.8, 0.4, 0.2, 0.1)]

    return Report(
        title="q-learning on and off policy",
        statement="(J, q) with J(T) = h and ∫e^{q/λ}da = 1 is the optimal pair iff "
        "e^{−ρt}J + ∫e^{−ρu}(r − q)du is a martingale along one policy that explores, and then "
        "along all: E Σ ξ δ = 0 for δ = e^{−ρΔ}J′ − J + (r − q)Δ. Improving by π′ ∝ e^{q/λ} never "
        "loses.",
        assumptions="Every action has positive density under the behavior.",
        source="Jia and Zhou 2022 (2207.00713); docs/theory, q-learning.",
        code=("ctcontrol.QLearning", "ctcontrol.exact.lq.LQProblem.advantage_rate"),
        claims=(
            equal("gibbs", "q* = λ log π*", largest_q_gap(lq), 0),
            rate(
                "value_condition",
                "truth, off policy: E Σ|x|²δ = O(Δt)",
                lengths,
                [f[0].mean for f in found],
                1.0,
                0.1,
                [f[0].stderr for f in found],
            ),
            rate(
                "q_condition",
                "truth, off policy: E Σ ∂log π* δ = O(Δt)",
                lengths,
                [f[1].mean for f in found],
                1.0,
                0.1,
                [f[1].stderr for f in found],
            ),
            sampled("signal", "the algorithm's signal has that mean", found[-1][2], 0.0),
            at_least(
                "wrong_q",
                "q off by 0.3: |E Σ|x|²δ|, in units of the truth's at 100 steps",
                abs(wrong.mean / found[2][0].mean),
                5.0,
                abs(wrong.stderr / found[2][0].mean),
            ),
            at_least(
                "improvement",
                "least gain of three steps π′ ∝ e^{q/λ}",
                float(np.diff(returns).min()),
                0.0,
            ),
            rate(
                "newton",
                "and near the optimum squares the regret: regret after ∝ (regret before)²",
                [before for before, _ in near],
                [after for _, after in near],
                2.0,
                0.01,
            ),
        ),
        plot=Plot(
            "Off-policy martingale conditions, truth inserted",
            "Δt",
            "|E Σ ξ δ|",
            (
                Series(
                    "ξ = |x|²",
                    lengths,
                    [abs(f[0].mean) for f in found],
                    [f[0].stderr for f in found],
                ),
                Series(
                    "ξ = ∂log π*",
                    lengths,
                    [abs(f[1].mean) for f in found],
                    [f[1].stderr for f in found],
                ),
                power("slope 1", lengths, abs(found[-1][0].mean), 1.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
