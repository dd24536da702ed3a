"""Exploratory linear-quadratic control: golden numbers, equations, identities, simulations."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, EulerMaruyama, ItoAdvantage, TimeGrid, simulate
from ctcontrol.exact.exploratory_lq import (
    ControlledVolatilityLQ,
    ErgodicLQ,
    ExploratoryLQ,
    QuadraticValue,
)
from ctcontrol.exact.lq import LinearGaussianLaw, LinearGaussianPolicy, Piecewise
from tests.helpers import assert_close, assert_mean, seeded

NUMBERS: dict[str, Any] = {
    "A": -0.4,
    "B": 0.8,
    "C": 0.3,
    "D": 0.5,
    "M": 1.2,
    "N": 1.0,
    "R": 0.2,
    "P": 0.3,
    "Q": -0.1,
    "temperature": 0.25,
    "initial_mean": 0.8,
}
WZZ = ExploratoryLQ(**NUMBERS, discount=0.6)


def test_the_discounted_example() -> None:
    gain, offset, variance = WZZ.optimal_policy().at(0.0)
    assert gain.item() == pytest.approx(0.64107, abs=1e-5)
    assert offset.item() == pytest.approx(-0.08120, abs=1e-5)
    assert variance.item() == pytest.approx(0.21937, abs=1e-5)
    assert WZZ.coefficients(WZZ.optimal_policy()).k2 == pytest.approx(-0.5585074649, abs=1e-10)
    assert WZZ.optimal_return() == pytest.approx(-0.29815010, abs=1e-8)
    assert WZZ.exploration_cost() == pytest.approx(0.2083333333, abs=1e-10)


def test_the_ergodic_example() -> None:
    lq = ErgodicLQ.jia_zhou()
    best = lq.optimal_policy()
    gain, offset, variance = best.at(0.0)
    k = lq.coefficients(best)
    assert k.k2 == pytest.approx((1 - math.sqrt(7)) / 2, abs=1e-14)
    assert k.k1 == pytest.approx(-0.2915026221, abs=1e-10)
    assert -gain.item() == pytest.approx(-0.3542486889, abs=1e-10)
    assert offset.item() == pytest.approx(-0.7084973779, abs=1e-10)
    assert variance.item() == pytest.approx(0.0354248689, abs=1e-10)
    assert lq.optimal_average_reward() == pytest.approx(0.6333741715, abs=1e-10)
    plain = replace(lq, temperature=0.0)
    assert plain.optimal_average_reward() == pytest.approx(0.7084973779, abs=1e-10)
    assert plain.average_reward(best) == pytest.approx(0.6584973779, abs=1e-10)


@st.composite
def problems(draw: st.DrawFn) -> ControlledVolatilityLQ:
    """Discounted and ergodic problems, stable and not, with and without controlled noise."""
    unit = st.floats(-1, 1)
    N, M = draw(st.floats(0.3, 2)), draw(st.floats(0.3, 2))
    numbers: dict[str, Any] = {
        "A": draw(unit),
        "B": draw(st.floats(0.5, 1.5)),
        "C": draw(unit),
        "D": draw(st.sampled_from([0.0, 0.4, -0.9])),
        "M": M,
        "N": N,
        "R": 0.9 * math.sqrt(M * N) * draw(unit),
        "P": draw(unit),
        "Q": draw(unit),
        "temperature": draw(st.sampled_from([0.0, 0.3])),
        "initial_mean": draw(unit),
        "initial_variance": draw(st.floats(0, 1)),
    }
    try:
        if draw(st.booleans()):
            return ErgodicLQ(**numbers)
        return ExploratoryLQ(**numbers, discount=draw(st.floats(0.1, 2)))
    except CtcontrolError:
        assume(False)
        raise


def near_optimal(lq: ControlledVolatilityLQ, seed: int) -> LinearGaussianLaw:
    """A policy with a finite return, some way from the optimum."""
    rng, (K, k, v) = np.random.default_rng(seed), lq.optimal_policy().at(0.0)
    step = rng.normal()
    while True:
        law = LinearGaussianLaw(K + step, k + rng.normal(), v + rng.uniform(0.1, 1))
        g = -law.at(0.0)[0].item()
        growth = 2 * (lq.A + lq.B * g) + (lq.C + lq.D * g) ** 2
        g0 = -K.item()
        least = 2 * (lq.A + lq.B * g0) + (lq.C + lq.D * g0) ** 2
        rho = rho_of(lq)
        if growth < rho - 0.2 * (rho - least):
            return law
        step /= 2


def rho_of(lq: ControlledVolatilityLQ) -> float:
    return lq.discount if isinstance(lq, ExploratoryLQ) else 0.0


def value_of(lq: ControlledVolatilityLQ, law: LinearGaussianLaw) -> QuadraticValue:
    if isinstance(lq, ExploratoryLQ):
        return lq.value(law)
    assert isinstance(lq, ErgodicLQ)
    return lq.value(law, 1.0)


def objective(lq: ControlledVolatilityLQ, law: LinearGaussianLaw) -> float:
    if isinstance(lq, ExploratoryLQ):
        return lq.expected_return(law)
    assert isinstance(lq, ErgodicLQ)
    return lq.average_reward(law)


def size_of(lq: ControlledVolatilityLQ, law: LinearGaussianLaw) -> float:
    k = lq.coefficients(law)
    rho = rho_of(lq)
    return max(1.0, abs(k.k2), abs(k.k1), abs(k.rate), abs(k.rate) / rho if rho else 0.0)


def rate_by_ito(
    lq: ControlledVolatilityLQ, law: LinearGaussianLaw, x: torch.Tensor, u: torch.Tensor
) -> torch.Tensor:
    """∂V/∂t + bV' + ½σ²V'' − ρV + r from the torch objects alone."""
    assert isinstance(lq, ExploratoryLQ | ErgodicLQ)
    problem, t = lq.problem(1.0, tail=law), torch.full((len(x),), 0.3, dtype=x.dtype)
    jet = value_of(lq, law).jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    drift = (problem.sde.drift(t, x, u, None) * jet.gradient).sum(1)
    trace = problem.sde.volatility(t, x, u).trace(jet.hessian)
    running = problem.reward.running(t, x, u, None)
    return jet.time + drift + trace / 2 - rho_of(lq) * jet.value + running


@given(problems(), st.integers(0, 1000))
def test_the_value_solves_its_equation(lq: ControlledVolatilityLQ, seed: int) -> None:
    """The generator applied to V is the advantage rate, whose average is −λ·entropy."""
    law = near_optimal(lq, seed)
    K, k, v = (part.item() for part in law.at(0.0))
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    for x in np.random.default_rng(seed).normal(size=3):
        u = k - K * x + math.sqrt(v) * nodes
        states = torch.full((len(u), 1), x, dtype=torch.float64)
        q = rate_by_ito(lq, law, states, torch.as_tensor(u)[:, None]).numpy()
        scale = size_of(lq, law) * (1 + x**2) * (1 + np.abs(u).max() ** 2)
        gap = q - lq.advantage_rate(law)(np.full_like(u, x), u)
        assert np.abs(gap).max() < 1e-10 * scale
        entropy = 0.5 * math.log(2 * math.pi * math.e * v)
        average = float(weights @ q) / float(weights.sum())
        assert abs(average + lq.temperature * entropy) < 1e-9 * scale


@given(problems())
def test_the_optimum_solves_the_exploratory_bellman_equation(lq: ControlledVolatilityLQ) -> None:
    """λ log ∫ e^{q*/λ} du = 0 for λ > 0, max q* = 0 for λ = 0; the maximizer is the policy."""
    law = lq.optimal_policy()
    K, k, v = (part.item() for part in law.at(0.0))
    for x in (-1.3, 0.0, 0.7):
        u = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
        low, mid, high = rate_by_ito(lq, law, torch.full_like(u, x), u).tolist()
        bend, slope = low + high - 2 * mid, (high - low) / 2  # q = mid + slope u + ½ bend u²
        assert bend < 0
        top = mid - slope**2 / (2 * bend)
        size = size_of(lq, law) * (1 + x**2) * (1 + abs(slope / bend)) ** 2
        assert abs(-slope / bend - (k - K * x)) < 1e-9 * size
        if lq.temperature:
            top += 0.5 * lq.temperature * math.log(2 * math.pi * lq.temperature / -bend)
            assert v == pytest.approx(-lq.temperature / bend, rel=1e-9)
        assert abs(top) < 1e-9 * size


@given(problems(), st.integers(0, 1000))
def test_the_gradient_is_that_of_the_objective(lq: ControlledVolatilityLQ, seed: int) -> None:
    law = near_optimal(lq, seed)
    gradient = lq.gradient(law)
    parts = [part.copy() for part in law.at(0.0)]
    for i, exact in enumerate((gradient.gain, gradient.offset, gradient.covariance)):
        found = 0.0
        for h, weight in ((-2e-4, 1), (-1e-4, -8), (1e-4, 8), (2e-4, -1)):
            moved = [p + (h if j == i else 0.0) for j, p in enumerate(parts)]
            found += weight * objective(lq, LinearGaussianLaw(*moved)) / 12e-4
        size = size_of(lq, law) * (1 + abs(exact.item()))
        assert abs(found - exact.item()) < 1e-6 * size


@given(problems(), st.integers(0, 1000))
def test_the_performance_difference_is_the_difference(
    lq: ControlledVolatilityLQ, seed: int
) -> None:
    law, other = near_optimal(lq, seed), near_optimal(lq, seed + 1)
    truth = objective(lq, other) - objective(lq, law)
    size = max(size_of(lq, law), size_of(lq, other)) ** 2
    assert abs(lq.performance_difference(law, other) - truth) < 1e-9 * size
    best = lq.optimal_policy()
    if lq.temperature:
        assert objective(lq, best) >= max(objective(lq, law), objective(lq, other))
        stationary = lq.gradient(best)
        for part in (stationary.gain, stationary.offset, stationary.covariance):
            assert abs(part.item()) < 1e-8 * size_of(lq, best) ** 2


@given(problems())
def test_the_exploration_cost_does_not_depend_on_the_dynamics(lq: ControlledVolatilityLQ) -> None:
    assert isinstance(lq, ExploratoryLQ | ErgodicLQ)
    classical = replace(lq, temperature=0.0)
    loss = objective(classical, classical.optimal_policy())
    loss -= objective(classical, lq.optimal_policy())
    size = size_of(classical, classical.optimal_policy())
    assert abs(loss - lq.exploration_cost()) < 1e-9 * size


@pytest.mark.parametrize("ergodic", [False, True])
def test_the_ito_estimator_recovers_the_exact_rate(ergodic: bool) -> None:
    lq = ErgodicLQ(**NUMBERS) if ergodic else WZZ
    policy = LinearGaussianPolicy([[0.5]], [0.2], std=0.6)
    problem, grid = lq.problem(1.0, tail=policy), TimeGrid.uniform(1.0, 6)
    path = simulate(problem, policy, grid, 9, generator=seeded(1))
    estimate = ItoAdvantage()(problem, EulerMaruyama(), value_of(lq, policy.law()), path)
    q = lq.advantage_rate(policy)(path.states[:-1, :, 0].numpy(), path.actions[:, :, 0].numpy())
    bonus = 0.25 * 0.5 * math.log(2 * math.pi * math.e * 0.36)
    assert_close(estimate, torch.as_tensor(q + bonus))


def chain_return(lq: ExploratoryLQ, law: LinearGaussianLaw, steps: int, dt: float) -> float:
    """E of the return of the Euler–Maruyama chain whose actions are drawn at nodes and held."""
    g, c, v = -law.at(0.0)[0].item(), law.at(0.0)[1].item(), law.at(0.0)[2].item()
    Ag, Cg, shrink = 1 + (lq.A + lq.B * g) * dt, lq.C + lq.D * g, math.exp(-lq.discount * dt)
    entropy = 0.5 * lq.temperature * math.log(2 * math.pi * math.e * v)
    k = lq.coefficients(law)
    k2, k1, k0 = k.k2, k.k1, k.rate / lq.discount
    for _ in range(steps):
        bend = 0.5 * k2 * (Ag**2 + Cg**2 * dt)
        tilt = k2 * (Ag * lq.B * c * dt + Cg * lq.D * c * dt) + k1 * Ag
        rest = 0.5 * k2 * (lq.B**2 * dt**2 + lq.D**2 * dt) * (c**2 + v) + k1 * lq.B * c * dt + k0
        k2 = 2 * (shrink * bend - dt * (0.5 * lq.M + lq.R * g + 0.5 * lq.N * g**2))
        k1 = shrink * tilt - dt * ((lq.R + lq.N * g) * c + lq.P + lq.Q * g)
        k0 = shrink * rest + dt * (entropy - 0.5 * lq.N * (c**2 + v) - lq.Q * c)
    m = lq.initial_mean
    return 0.5 * k2 * (m**2 + lq.initial_variance) + k1 * m + k0


def test_a_simulation_earns_the_return() -> None:
    lq = replace(WZZ, initial_variance=0.3, D=0.9)
    law = LinearGaussianLaw([[0.5]], [0.2], 0.5)
    problem = lq.problem(1.0, tail=law)
    policy = LinearGaussianPolicy([[0.5]], [0.2], std=math.sqrt(0.5))
    path = simulate(problem, policy, TimeGrid.uniform(1.0, 10), 50_000, generator=seeded(2))
    expected = chain_return(lq, law, 10, 0.1)
    assert_mean(path.returns(), expected)
    # The held action biases the chain by O(Δ): Richardson on exact chains finds the value.
    coarse, fine = chain_return(lq, law, 400, 1 / 400), chain_return(lq, law, 800, 1 / 800)
    assert abs(2 * fine - coarse - lq.expected_return(law)) < 1e-5
    # Exploration costs at order one: without D²v the return would be higher by this.
    free = replace(lq, D=0.0)
    assert free.coefficients(law).rate - lq.coefficients(law).rate > 0.1


def test_a_long_run_earns_the_average_reward() -> None:
    lq = ErgodicLQ.jia_zhou()
    policy = LinearGaussianPolicy([[0.2]], [-0.5], std=0.4)
    problem = lq.problem(4.0, tail=policy)
    path = simulate(problem, policy, TimeGrid.uniform(4.0, 80), 10_000, generator=seeded(3))
    assert_mean(path.returns() / 4, lq.average_reward(policy), bias=0.3 * 0.05)
    mean, second = lq.occupation(policy)
    later = path.states[-1, :, 0]
    assert_mean(torch.stack([later, later**2], 1), torch.tensor([mean, second]), bias=0.03)


def test_bad_problems_are_refused_at_the_door() -> None:
    for change, message in [
        ({"M": math.nan}, "M must be a finite number, got nan"),
        ({"N": -1.0}, r"strictly concave, N > 0 and MN > R², got N = -1.*raise M or N"),
        ({"R": 1.2}, r"MN − R² = -0.24"),
        ({"A": 3.0}, r"every policy has return −∞.*e\^{2.48 t}, not below the discount 0.6"),
        ({"B": 0.0, "D": 0.0, "A": 0.3}, r"every policy has return −∞.*give the action"),
        ({"discount": 0.0}, r"discount must be > 0, got 0.0; use ErgodicLQ"),
        ({"temperature": -1.0}, "temperature must be a finite number >= 0"),
        ({"initial_variance": -1.0}, "initial_variance must be a finite number >= 0"),
    ]:
        with pytest.raises(CtcontrolError, match=message):
            replace(WZZ, **change)


def test_bad_policies_are_refused() -> None:
    for law, message in [
        (LinearGaussianLaw([[-3.0]], covariance=0.1), r"not finite: .*grows like.*discount 0.6"),
        (LinearGaussianLaw([[0.5, 0.0]], covariance=0.1), r"gain has shape \(1, 2\).*one action"),
        (LinearGaussianLaw([[0.5]]), "variance must be > 0.*point mass"),
        (LinearGaussianLaw(Piecewise(np.array([0, 1.0]), np.ones((1, 1, 1)))), "constant in time"),
    ]:
        with pytest.raises(CtcontrolError, match=message):
            WZZ.value(law)


def test_linear_equations_where_nothing_is_controlled() -> None:
    """B = D = 0: the reward is maximized point by point and k₂ solves a linear equation."""
    lq = ExploratoryLQ(A=-0.2, B=0, C=0.5, D=0, M=1.0, N=2.0, R=0.6, discount=0.4)
    k2 = lq.coefficients(lq.optimal_policy()).k2
    assert k2 == pytest.approx(-(1.0 - 0.36 / 2) / (0.4 + 0.4 - 0.25), rel=1e-12)
