"""Linearly solvable control: the equation of optimal control, golden values, pathwise identity."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from ctcontrol import CtcontrolError, TimeGrid, simulate
from ctcontrol.exact.hopf_cole import HopfCole, LogCosh, LogMixture, LogQuadratic, LogWeight
from ctcontrol.exact.lq import LQProblem
from ctcontrol.exact.tilt import GaussianMixture
from tests.helpers import assert_mean, slope

GOLDEN = HopfCole(LogCosh([1.3]), volatility=0.8, action_cost=1.5, horizon=1.0, initial_mean=[0.5])


def random_end(kind: str, seed: int, d: int) -> LogWeight:
    rng = np.random.default_rng([seed, d])
    if kind == "cosh":
        return LogCosh(rng.normal(size=d))
    if kind == "mixture":
        root = rng.normal(size=(3, d, d)) / np.sqrt(d)
        spread = root @ np.swapaxes(root, 1, 2) + 0.2 * np.eye(d)
        return LogMixture(
            GaussianMixture.of(rng.uniform(0.2, 1, 3), 1.5 * rng.normal(size=(3, d)), spread)
        )
    bend = rng.normal(size=(d, d)) / np.sqrt(d)
    return LogQuadratic(rng.normal(size=d), 0.5 * bend @ bend.T)


def random_problem(kind: str, seed: int, d: int, state_cost: float) -> HopfCole:
    rng = np.random.default_rng([seed, 1])
    return HopfCole(
        random_end(kind, seed, d),
        volatility=float(rng.uniform(0.4, 1.2)),
        action_cost=float(rng.uniform(0.5, 2)),
        state_cost=state_cost,
        horizon=float(rng.uniform(0.5, 1.5)),
        initial_mean=np.zeros(d),
    )


problems = st.builds(
    random_problem,
    st.sampled_from(["cosh", "mixture", "quadratic"]),
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.6]),
)


def test_golden_value() -> None:
    assert abs(GOLDEN.optimal_return() - 0.7091148223) < 1e-10
    t, x = torch.tensor([0.4], dtype=torch.float64), torch.tensor([[0.5]], dtype=torch.float64)
    action = float(GOLDEN.optimal_action(t, x, None))
    assert abs(action - 0.64 * 1.3 * math.tanh(0.65)) < 1e-12


@given(problems, st.integers(0, 1000))
def test_the_value_solves_the_equation_of_optimal_control(problem: HopfCole, seed: int) -> None:
    """∂V/∂t + ½σ²ΔV + |∇V|²/(2R) − ½c|x|² = 0 and V(T) = h."""
    generator = torch.Generator().manual_seed(seed)
    d = problem.end.states
    t = 0.98 * problem.horizon * torch.rand(5, generator=generator, dtype=torch.float64)
    x = torch.randn(5, d, generator=generator, dtype=torch.float64)
    jet = problem.value().jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    spread = 0.5 * problem.volatility**2 * jet.hessian.diagonal(dim1=1, dim2=2).sum(1)
    square = jet.gradient.square().sum(1) / (2 * problem.action_cost)
    cost = 0.5 * problem.state_cost * x.square().sum(1)
    residual = jet.time + spread + square - cost
    scale = 1 + jet.time.abs() + spread.abs() + square
    assert float((residual / scale).abs().max()) < 1e-10
    end = problem.value().at(torch.full_like(t, problem.horizon), x, None)
    reward = problem.problem().reward.terminal(x, None)
    assert torch.allclose(end, reward, rtol=1e-10, atol=1e-10)


@given(problems, st.integers(0, 1000))
def test_the_action_is_the_gradient_of_the_value(problem: HopfCole, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, problem.end.states, generator=generator, dtype=torch.float64)
    t = torch.full((4,), 0.2, dtype=torch.float64)
    gradient = problem.value().jet(t, x, None).gradient
    action = problem.optimal_policy().dist(t, x, None).mean
    assert torch.allclose(problem.action_cost * action, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["cosh", "mixture", "quadratic"])
def test_the_average_is_an_average(kind: str) -> None:
    """log E exp ℓ(x + √v ξ) by quadrature in one dimension."""
    end = random_end(kind, 2, 1)
    still = torch.zeros(1, dtype=torch.float64)

    def integrand(noise: float) -> float:
        moved = torch.tensor([[0.4 + math.sqrt(0.7) * noise]], dtype=torch.float64)
        weight = float(end.log_expectation(moved, still))
        return math.exp(weight - 0.5 * noise**2) / math.sqrt(2 * math.pi)

    expected = math.log(quad(integrand, -12, 12, epsabs=1e-11, epsrel=1e-11, limit=200)[0])
    found = end.log_expectation(
        torch.tensor([[0.4]], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    )
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("state_cost", [0.0, 0.8])
def test_a_quadratic_end_is_the_linear_quadratic_problem(state_cost: float) -> None:
    bend = np.array([[0.5, 0.2], [0.2, 0.4]])
    problem = HopfCole(
        LogQuadratic([0.0, 0.0], bend),
        volatility=0.7,
        action_cost=1.3,
        state_cost=state_cost,
        horizon=1.2,
        initial_mean=[0.6, -0.5],
    )
    lq = LQProblem(
        A=np.zeros((2, 2)),
        B=np.eye(2),
        Q=0.5 * state_cost * np.eye(2),
        R=0.65 * np.eye(2),
        G=0.5 * problem.temperature * bend,
        volatility=0.7,
        horizon=1.2,
        initial_mean=[0.6, -0.5],
    )
    assert abs(problem.optimal_return() - lq.optimal_return()) < 1e-10
    t, x = torch.tensor([0.3], dtype=torch.float64), torch.tensor([[0.2, 0.9]], dtype=torch.float64)
    law = lq.optimal_policy()
    expected = -law.gain(0.3) @ np.array([0.2, 0.9])
    assert np.abs(problem.optimal_action(t, x, None)[0].numpy() - expected).max() < 1e-9


def test_little_state_cost_is_none() -> None:
    """Mehler's kernel tends to the heat kernel."""
    kept: dict[str, Any] = {
        "volatility": 0.8,
        "action_cost": 1.5,
        "horizon": 1.0,
        "initial_mean": [0.5],
    }
    nearly = HopfCole(LogCosh([1.3]), **kept, state_cost=1e-8)
    assert abs(nearly.optimal_return() - 0.7091148223) < 1e-7


def test_every_optimal_path_pays_the_value(generator: torch.Generator) -> None:
    """h − ∫(½R|u*|² + ½c|x|²)dt − ∫Ru*·σdW = V(0, x_0): the spread vanishes with the step."""
    mixture = GaussianMixture.of([0.4, 0.6], [[-1.5, 0.0], [1.2, 0.6]], [0.3, 0.5])
    problem = HopfCole(
        LogMixture(mixture),
        volatility=0.8,
        action_cost=1.5,
        state_cost=0.4,
        horizon=1.0,
        initial_mean=[0.2, -0.3],
    )
    counts, spreads, returns = (25, 100, 400), [], torch.zeros(0)
    for steps in counts:
        path = simulate(
            problem.problem(),
            problem.optimal_policy(),
            TimeGrid.uniform(1.0, steps),
            1000,
            generator=generator,
        )
        # innovations are σΔW
        martingale = problem.action_cost * (path.means * path.innovations).sum((0, 2))
        paid = path.returns() - martingale
        assert_mean(paid, problem.optimal_return(), bias=2.0 / steps)
        spreads.append(float(paid.std()))
        returns = path.returns()
    assert float(returns.std()) > 10 * spreads[-1]
    assert slope(counts, spreads) < -0.45


def test_free_energy_is_underestimated_by_few_samples(generator: torch.Generator) -> None:
    """E λ log mean e^ℓ = V − λ CV²/(2M) + O(M⁻²)."""
    trials, few = 8000, 30
    noise = torch.randn(trials, few, 1, generator=generator, dtype=torch.float64)
    ends = 0.5 + 0.8 * noise
    means = [GOLDEN.free_energy_estimate(e).mean for e in ends]
    estimates = torch.tensor(means, dtype=torch.float64)
    v = 0.64 * 1.3**2
    first = math.log(math.cosh(0.65)) + 0.5 * v
    second = 0.5 * (1 + math.exp(2 * v) * math.cosh(1.3))  # E cosh² = ½(1 + E cosh 2bX)
    variation = second / math.exp(2 * first) - 1
    lost = 0.96 * variation / (2 * few)
    assert_mean(estimates, GOLDEN.optimal_return() - lost, bias=0.2 * lost)
    assert lost > 5 * float(estimates.std()) / trials**0.5
    groups = [GOLDEN.free_energy_estimate(e) for e in ends.reshape(80, -1, 1)]
    claimed = sum(e.stderr for e in groups) / 80
    seen = float(torch.tensor([e.mean for e in groups], dtype=torch.float64).std())
    assert claimed == pytest.approx(seen, rel=5 / 160**0.5)
    assert groups[0].n == trials * few // 80


def test_bad_input_is_refused() -> None:
    facts: dict[str, Any] = {"volatility": 0.8, "action_cost": 1.0, "horizon": 1.0}
    with pytest.raises(CtcontrolError, match=r"initial_mean must have shape \(1,\)"):
        HopfCole(LogCosh([1.0]), **facts, initial_mean=[0.0, 1.0])
    with pytest.raises(CtcontrolError, match="slope must be a vector"):
        LogCosh(1.0)
    wild = HopfCole(LogQuadratic([0.0], -2.0), **facts, initial_mean=[0.0])
    with pytest.raises(CtcontrolError, match="grows faster than the noise spreads"):
        wild.optimal_return()
    with pytest.raises(CtcontrolError, match="needs a sure start"):
        HopfCole(
            LogCosh([1.0]), **facts, initial_mean=[0.0], initial_covariance=1.0
        ).optimal_return()
    costly = HopfCole(LogCosh([1.0]), **facts, initial_mean=[0.0], state_cost=1.0)
    with pytest.raises(CtcontrolError, match="do not tell the state cost"):
        costly.free_energy_estimate(torch.zeros(3, 1))
