"""Actions that diffuse: Q, the optimal drift, and policy iteration."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, TimeGrid, simulate
from ctcontrol.exact.cqsm import CQSM
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw
from tests.helpers import assert_mean

FACTS: dict[str, Any] = {
    "A": [[0.2, 0.5], [-0.3, -0.1]],
    "B": [[0.4], [1.0]],
    "Q": [[1.0, 0.2], [0.2, 0.7]],
    "R": [[0.5]],
    "volatility": 0.4,
    "action_volatility": 0.3,
    "drift_cost": 0.6,
    "discount": 0.8,
    "initial_mean": [0.5, -0.4, 0.2],
    "initial_covariance": 0.1,
}


def changed(**changes: Any) -> CQSM:
    return CQSM(**{**FACTS, **changes})


PROBLEM = changed()


def random_problem(seed: int, d: int, m: int) -> CQSM:
    rng = np.random.default_rng([seed, d, m])
    q, r = rng.normal(size=(d, d)), rng.normal(size=(m, m))
    return CQSM(
        A=rng.normal(size=(d, d)) / np.sqrt(d),
        B=rng.normal(size=(d, m)),
        Q=q @ q.T,
        R=r @ r.T,
        volatility=0.5 * rng.normal(size=(d, d + 1)),
        action_volatility=0.3,
        drift_cost=float(rng.uniform(0.2, 2)),
        discount=float(rng.uniform(0.2, 2)),
        initial_mean=rng.normal(size=d + m),
    )


problems = st.builds(random_problem, st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 2))


def residual(problem: CQSM, drift: LinearGaussianLaw, z: np.ndarray) -> float:
    """r − ½λ|Ψ|² − ρQ + (Ax + Ba)·∂_xQ + Ψ·∂_aQ + ½tr(σσᵀ∂²Q), the martingale condition."""
    q, d = problem.q(drift), problem.states
    x, a = z[:d], z[d:]
    psi = drift.offset(0.0) - drift.gain(0.0) @ z
    slope = q.gradient(z)
    cost = x @ problem.Q @ x + a @ problem.R @ a + 0.5 * problem.drift_cost * psi @ psi
    spread = (problem.volatility @ problem.volatility.T * q.P[:d, :d]).sum()
    spread += (problem.action_volatility @ problem.action_volatility.T * q.P[d:, d:]).sum()
    flow = (problem.A @ x + problem.B @ a) @ slope[:d] + psi @ slope[d:] - spread
    return float(-cost - problem.discount * q(z) + flow)


@given(problems, st.integers(0, 1000))
def test_q_makes_the_reward_a_martingale(problem: CQSM, seed: int) -> None:
    rng = np.random.default_rng(seed)
    best = problem.optimal_drift()
    z = rng.normal(size=problem.states + problem.actions)
    scale = 1 + float(np.abs(problem.q(best).P).max())
    assert abs(residual(problem, best, z)) < 1e-9 * scale
    nearby = LinearGaussianLaw(
        best.gain(0.0) + 0.02 * rng.normal(size=best.gain(0.0).shape),
        rng.normal(size=problem.actions),
    )
    scale = 1 + float(np.abs(problem.q(nearby).P).max()) * 10
    assert abs(residual(problem, nearby, z)) < 1e-9 * scale


@given(problems)
def test_the_optimal_drift_is_the_score_of_its_q(problem: CQSM) -> None:
    best = problem.optimal_drift()
    again = problem.improved(best)
    scale = 1 + float(np.abs(best.gain(0.0)).max())
    assert np.abs(again.gain(0.0) - best.gain(0.0)).max() < 1e-8 * scale
    assert np.abs(again.offset(0.0)).max() < 1e-10
    q = problem.q(best)
    noise = problem.stationary.lq.diffusion
    assert float(q.c) == pytest.approx(float((noise * q.P).sum()) / problem.discount, rel=1e-9)


def test_policy_iteration_squares_the_regret() -> None:
    best = PROBLEM.expected_return(PROBLEM.optimal_drift())
    drift, regrets = LinearGaussianLaw([[0.0, 0.0, 1.5]], [0.3]), []
    for _ in range(5):
        regrets.append(best - PROBLEM.expected_return(drift))
        new = PROBLEM.improved(drift)
        gain = PROBLEM.stationary.performance_difference(drift, new)
        mean, second = PROBLEM.stationary.occupation(new)
        D, k = new.gain(0.0) - drift.gain(0.0), new.offset(0.0) - drift.offset(0.0)
        square = float((D @ second @ D.T)[0, 0] - 2 * (k @ D @ mean) + k @ k)
        assert gain == pytest.approx(0.5 * PROBLEM.drift_cost * square / 0.8, rel=1e-7, abs=1e-12)
        drift = new
    assert regrets[0] > 0.1
    for before, after in itertools.pairwise(regrets):
        assert after < 2 * before**2 + 1e-11


def test_one_action_by_hand() -> None:
    """Without a state to steer: dQ/da solves a scalar Riccati equation, λ⁻¹2P² + ρP = R."""
    problem = CQSM(
        A=[[-1.0]],
        B=[[0.0]],
        Q=[[0.0]],
        R=[[0.7]],
        volatility=0.5,
        action_volatility=0.2,
        drift_cost=0.4,
        discount=0.3,
        initial_mean=[0.0, 1.0],
    )
    P = (-0.3 + np.sqrt(0.09 + 4 * 2 / 0.4 * 0.7)) / (4 / 0.4)
    gain = problem.optimal_drift().gain(0.0)
    assert np.abs(gain - [[0.0, 2 / 0.4 * P]]).max() < 1e-10
    assert problem.expected_return(problem.optimal_drift()) == pytest.approx(
        -P - 0.04 * P / 0.3, rel=1e-10
    )


def test_simulated_returns(generator: torch.Generator) -> None:
    """Over a long horizon little is left of the discounted return."""
    drift, horizon, steps = PROBLEM.optimal_drift(), 8.0, 200
    lq = PROBLEM.augmented(horizon)
    path = simulate(
        lq.problem(),
        FixedLinearGaussianPolicy(drift),
        TimeGrid.uniform(horizon, steps),
        2000,
        generator=generator,
    )
    exact = PROBLEM.expected_return(drift)
    assert_mean(path.returns(), lq.chain(path.grid.times.numpy()).expected_return(drift))
    assert abs(lq.expected_return(drift) - exact) < 2 * np.exp(-0.8 * horizon)


def test_bad_input_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="discount must be a finite number > 0"):
        changed(discount=0.0)
    with pytest.raises(CtcontrolError, match=r"A must have shape \(2, 2\)"):
        changed(A=[[1.0]])
    with pytest.raises(CtcontrolError, match="action_volatility must be a number or a matrix"):
        changed(action_volatility=[[0.1], [0.2]])
    with pytest.raises(CtcontrolError, match="drift Ψ is deterministic"):
        PROBLEM.q(LinearGaussianLaw([[0.0, 0.0, 1.0]], [0.0], 0.1))
    with pytest.raises(CtcontrolError, match="the return is not finite"):
        PROBLEM.q(LinearGaussianLaw([[0.0, 0.0, -2.0]]))
