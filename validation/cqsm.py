"""Continuous Q-score matching: the action diffuses, and its drift climbs Q."""

import numpy as np

from ctcontrol import Estimate, EulerMaruyama, TimeGrid, action_as_state, simulate
from ctcontrol.advantages import TemporalDifferenceAdvantage
from ctcontrol.exact.cqsm import CQSM
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LQProblem
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
    rate,
    sampled,
)

NOISE = 0.3


def augmented(cost: float) -> LQProblem:
    """z = (x, a) with da = Ψ dt + 0.3 dW^a and the price ½·cost·Ψ²: linear-quadratic again."""
    lq, (K, k, _) = two_states(), two_state_law().at(0.0)
    none = np.zeros((1, 2))
    push = np.vstack([np.eye(2), -K])
    return LQProblem(
        A=np.block([[lq.A, lq.B], [none, np.zeros((1, 1))]]),
        B=[[0.0], [0.0], [1.0]],
        Q=np.block([[lq.Q, lq.S], [lq.S.T, lq.R]]),
        R=[[0.5 * cost]],
        G=np.block([[lq.G, none.T], [none, np.zeros((1, 1))]]),
        volatility=np.block([[lq.volatility, none.T], [none, np.full((1, 1), NOISE)]]),
        horizon=lq.horizon,
        initial_mean=np.append(lq.initial_mean, k - K @ lq.initial_mean),
        initial_covariance=push @ lq.initial_covariance @ push.T,
        discount=lq.discount,
    )


def stationary() -> CQSM:
    """dX = (0.3X + a)dt + 0.7 dW without a horizon, discount 0.4."""
    return CQSM(
        A=[[0.3]],
        B=[[1.0]],
        Q=[[1.0]],
        R=[[0.5]],
        volatility=0.7,
        action_volatility=NOISE,
        drift_cost=0.5,
        discount=0.4,
        initial_mean=[1.0, 0.0],
    )


def climbed(lq: LQProblem, law: LinearGaussianLaw, cost: float) -> LinearGaussianLaw:
    """Ψ′ = ∂_a Q^Ψ/cost, with Q = −zᵀPz − 2pᵀz − c."""
    value = lq.value(law).function
    return LinearGaussianLaw(
        lambda t: 2 / cost * value.at(t).P[2:], lambda t: -2 / cost * value.at(t).p[2:]
    )


def newton(lq: LQProblem, cost: float, distance: float) -> tuple[float, float]:
    """Regrets of a drift at this distance from the optimum, and of the one that follows it."""
    best = lq.optimal_policy()
    law = LinearGaussianLaw(
        lambda t: best.gain(t) + distance * np.array([[0.3, -0.2, 0.5]]),
        lambda t: best.offset(t) + 0.25 * distance,
    )
    most = lq.optimal_return()
    after = most - lq.expected_return(climbed(lq, law, cost))
    return most - lq.expected_return(law), after


def worst_gap(first: LinearGaussianLaw, second: LinearGaussianLaw) -> float:
    """Largest difference of gains and offsets at some times."""
    times = (0.0, 0.3, 0.6, 0.9)
    gains = max(float(np.abs(first.gain(t) - second.gain(t)).max()) for t in times)
    return max(gains, *(float(np.abs(first.offset(t) - second.offset(t)).max()) for t in times))


def check(size: Size) -> Report:
    """Q(z) + ∫(r − ½λ|Ψ|²)du is a martingale; Ψ* = ∂_a Q*/λ."""
    cost, lq = 0.5, augmented(0.5)
    best = lq.optimal_policy()
    start = LinearGaussianLaw([[0.2, -0.1, 0.5]], [0.1])
    law, regrets = start, [lq.optimal_return() - lq.expected_return(start)]
    for _ in range(3):
        law = climbed(lq, law, cost)
        regrets.append(lq.optimal_return() - lq.expected_return(law))

    near = [newton(lq, cost, distance) for distance in (0.4, 0.2, 0.1, 0.05)]
    steps, batch = pick(size, 50, 200), pick(size, 20_000, 50_000)
    grid, solver = TimeGrid.uniform(1.0, steps), EulerMaruyama()
    problem = action_as_state(
        two_states().problem(),
        FixedLinearGaussianPolicy(two_state_law()),
        states=2,
        action_volatility=NOISE,
        control_cost=cost,
    )
    policy = FixedLinearGaussianPolicy(start)
    run = simulate(problem, policy, grid, batch, generator=seeded(9), solver=solver)
    chain = lq.chain(grid.times.numpy())
    value = chain.value(start)
    delta = TemporalDifferenceAdvantage()(problem, solver, value, run) * run.lengths
    discount = (-problem.discount * grid.times[:-1]).exp()[:, None]
    tests = {"1": 1.0, "a": run.states[:-1, :, 2], "x1": run.states[:-1, :, 0]}
    moments = {name: Estimate.of((discount * xi * delta).sum(0)) for name, xi in tests.items()}
    # Q of another drift fails the same test.
    wrong = TemporalDifferenceAdvantage()(problem, solver, chain.value(best), run) * run.lengths
    off = Estimate.of((discount * wrong).sum(0))

    lasting = stationary()
    drift = lasting.optimal_drift()
    q = lasting.q(drift)
    settled = float(np.abs(2 / cost * q.P[1:] - drift.gain(0)).max())
    other = LinearGaussianLaw([[1.0, 1.5]])
    gained = lasting.expected_return(lasting.improved(other)) - lasting.expected_return(other)
    costs = (1e-2, 1e-3, 1e-4)
    floor = -two_states().optimal_return()
    lost = [_price(c) - floor for c in costs]
    return Report(
        title="Continuous Q-score matching",
        statement="Let the action diffuse, da = Ψ dt + σ_a dW^a, with the price ½λ|Ψ|². Then "
        "Q(t, x, a) is a value function of z = (x, a): Q + ∫(r − ½λ|Ψ|²)du is a martingale, and "
        "Ψ′ = ∂_a Q^Ψ/λ improves every Ψ; its fixed point is optimal.",
        assumptions="Smooth Q; no other regularizer.",
        source="2510.17122; docs/theory, actions as states.",
        code=("ctcontrol.action_as_state", "ctcontrol.exact.cqsm.CQSM"),
        claims=(
            equal("fixed_point", "Ψ* = ∂_a Q*/λ", worst_gap(climbed(lq, best, cost), best), 0),
            at_least(
                "improvement",
                "least gain of three steps Ψ′ = ∂_a Q/λ",
                float(-np.diff(regrets).max()),
                0.0,
            ),
            rate(
                "quadratic",
                "and near the optimum squares the regret: regret after ∝ (regret before)²",
                [before for before, _ in near],
                [after for _, after in near],
                2.0,
                0.01,
            ),
            equal("stationary", "without a horizon: Ψ* = ∂_a Q*/λ", settled, 0),
            at_least("stationary_improvement", "and Ψ′ gains over another drift", gained, 0.0),
            sampled(
                "return",
                "simulated return of the problem with the action as a state",
                Estimate.of(run.returns()),
                chain.expected_return(start),
            ),
            *(
                sampled(
                    f"martingale_{name}", f"martingale condition with ξ = {name}", estimate, 0.0
                )
                for name, estimate in moments.items()
            ),
            at_least(
                "wrong_q", "Q* along another drift breaks it by", abs(off.mean), 0.05, off.stderr
            ),
            order(
                "free_moves",
                "σ_a = 0, cheap moves: what is lost to ordinary control ∝ √λ",
                [c**0.5 for c in costs],
                lost,
                1.0,
            ),
        ),
        plot=Plot(
            "Regret of Q-score matching, each step solved exactly",
            "step",
            "regret",
            (Series("Ψ′ = ∂_a Q/λ", range(4), regrets),),
            log_y=True,
        ),
    )


def _price(cost: float) -> float:
    """−J* with the action as a state, without action noise, at this price of moving it."""
    noisy = augmented(cost)
    still = LQProblem(
        A=noisy.A,
        B=noisy.B,
        Q=noisy.Q,
        R=noisy.R,
        G=noisy.G,
        volatility=noisy.volatility[:, :2],
        horizon=noisy.horizon,
        initial_mean=noisy.initial_mean,
        initial_covariance=noisy.initial_covariance,
        discount=noisy.discount,
    )
    return -still.optimal_return()
