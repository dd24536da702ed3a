"""Merton with logarithmic utility: golden numbers, equations, and what exploration costs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import (
    ActionAdvantage,
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    ItoAdvantage,
    NumericalError,
    TimeGrid,
    Value,
    simulate,
)
from ctcontrol.exact.portfolio import Fraction, FractionPolicy, MertonLog
from tests.helpers import assert_close, assert_mean, seeded

MERTON = MertonLog(drift=0.12, rate=0.03, volatility=0.25, horizon=1.0, temperature=0.02)


def test_the_example() -> None:
    best, classical = MERTON.optimal_policy(), replace(MERTON, temperature=0.0)
    assert best.mean == pytest.approx(1.44, abs=1e-12)
    assert best.variance == pytest.approx(0.32, abs=1e-12)
    assert classical.growth(classical.optimal_policy()) == pytest.approx(0.0948, abs=1e-12)
    assert MERTON.reward_rate(best) == pytest.approx(0.1017844278, abs=1e-10)
    # Exploration costs ½σ²s² = λ/2 of growth, whatever the market.
    assert 0.0948 - MERTON.growth(best) == pytest.approx(0.01, abs=1e-12)


@st.composite
def markets(draw: st.DrawFn) -> MertonLog:
    return MertonLog(
        drift=draw(st.floats(-0.3, 0.5)),
        rate=draw(st.floats(-0.1, 0.2)),
        volatility=draw(st.floats(0.1, 1.0)),
        horizon=draw(st.floats(0.2, 5.0)),
        initial_wealth=draw(st.floats(0.1, 10)),
        temperature=draw(st.sampled_from([0.0, 0.1])),
    )


laws = st.builds(Fraction, st.floats(-2, 3), st.floats(0.01, 1))


def rate_by_ito(problem: ControlProblem, value: Value, x: float, u: torch.Tensor) -> np.ndarray:
    """∂V/∂t + bV' + ½σ²V'' from the torch objects alone."""
    states, t = torch.full_like(u, x), torch.full((len(u),), 0.1, dtype=u.dtype)
    jet = value.jet(t, states, None, hessian=True)
    assert jet.hessian is not None
    drift = (problem.sde.drift(t, states, u, None) * jet.gradient).sum(1)
    trace = problem.sde.volatility(t, states, u).trace(jet.hessian)
    return (jet.time + drift + trace / 2).numpy()


@given(markets(), laws, st.floats(0.1, 5))
def test_both_values_solve_their_equations(market: MertonLog, law: Fraction, x: float) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    u = law.mean + math.sqrt(law.variance) * nodes
    actions = torch.as_tensor(u)[:, None]
    wealth = rate_by_ito(market.problem(), market.value(law), x, actions)
    log = rate_by_ito(market.log_problem(), market.log_value(law), math.log(x), actions)
    q, size = market.advantage_rate(law, u), 1 + np.abs(u).max() ** 2
    assert np.abs(wealth - q).max() < 1e-10 * size
    assert np.abs(log - q).max() < 1e-10 * size
    entropy = 0.5 * math.log(2 * math.pi * math.e * law.variance)
    average = float(weights @ wealth) / float(weights.sum())
    assert abs(average + market.temperature * entropy) < 1e-9 * size
    # q = −½σ²(u − u*)² + ½σ²E(u − u*)² − λ·entropy
    star, s2 = market.excess / market.volatility**2, market.volatility**2
    mean_gap = (law.mean - star) ** 2 + law.variance
    formula = 0.5 * s2 * (mean_gap - (u - star) ** 2) - market.temperature * entropy
    assert np.abs(formula - q).max() < 1e-10 * (size + s2 * star**2)


@given(markets())
def test_the_optimum_solves_the_exploratory_bellman_equation(market: MertonLog) -> None:
    best, u = market.optimal_policy(), np.array([-1.0, 0.0, 1.0])
    low, mid, high = market.advantage_rate(best, u)
    bend, slope = low + high - 2 * mid, (high - low) / 2
    top = mid - slope**2 / (2 * bend)
    if market.temperature:
        top += 0.5 * market.temperature * math.log(2 * math.pi * market.temperature / -bend)
    assert abs(top) < 1e-9 * (1 + slope**2 / -bend)
    assert -slope / bend == pytest.approx(best.mean, rel=1e-8, abs=1e-8)
    assert market.optimal_return() == market.expected_return(best)


def test_an_optimal_fraction_beats_its_neighbours() -> None:
    best = MERTON.optimal_policy()
    for other in (replace(best, mean=1.5), replace(best, variance=0.3), replace(best, mean=0.0)):
        assert MERTON.expected_return(other) < MERTON.optimal_return()


def test_the_logarithm_grows_at_the_rate_at_any_step_size() -> None:
    law, market = Fraction(1.1, 0.6), replace(MERTON, initial_wealth=2.0)
    policy = FractionPolicy(law)
    path = simulate(
        market.log_problem(), policy, TimeGrid.uniform(1.0, 4), 100_000, generator=seeded(1)
    )
    assert_mean(path.final[:, 0], math.log(2.0) + market.growth(law))
    assert_mean(path.returns(), market.expected_return(law))
    # Without the exploration the growth is higher by ½σ²s², many standard errors.
    stderr = float(path.final[:, 0].std()) / math.sqrt(100_000)
    assert market.growth(Fraction(1.1)) - market.growth(law) > 15 * stderr
    assert policy.law().mean == law.mean
    assert policy.law().variance == pytest.approx(law.variance, rel=1e-12)


def test_wealth_grows_at_the_rate_up_to_the_step_size() -> None:
    law = Fraction(1.1, 0.6)
    path = simulate(
        MERTON.problem(),
        FractionPolicy(law),
        TimeGrid.uniform(1.0, 50),
        20_000,
        generator=seeded(2),
    )
    assert_mean(path.returns(), MERTON.expected_return(law), bias=0.1 / 50)


@pytest.mark.parametrize("logarithm", [False, True])
def test_the_ito_estimator_recovers_the_exact_rate(logarithm: bool) -> None:
    policy = FractionPolicy(Fraction(1.1, 0.6))
    problem = MERTON.log_problem() if logarithm else MERTON.problem()
    value = MERTON.log_value(policy) if logarithm else MERTON.value(policy)
    path = simulate(problem, policy, TimeGrid.uniform(1.0, 5), 9, generator=seeded(3))
    rates = ItoAdvantage()(problem, EulerMaruyama(), value, path)
    bonus = 0.02 * 0.5 * math.log(2 * math.pi * math.e * 0.6)
    q = MERTON.advantage_rate(policy, path.actions[:, :, 0].numpy())
    assert_close(rates, torch.as_tensor(q + bonus))
    with pytest.raises(CtcontrolError, match="drops the Hessian"):
        ActionAdvantage()(problem, EulerMaruyama(), value, path)


def test_ruin_by_a_step_that_is_too_long_is_reported() -> None:
    wild = FractionPolicy(Fraction(30.0, 900.0))
    with pytest.raises(NumericalError, match="terminal rewards"):
        simulate(MERTON.problem(), wild, TimeGrid.uniform(1.0, 2), 50, generator=seeded(4))


def test_bad_input_is_refused_at_the_door() -> None:
    for change, message in [
        ({"volatility": 0.0}, "volatility must be a finite number > 0"),
        ({"initial_wealth": -1.0}, "initial_wealth must be a finite number > 0"),
        ({"horizon": math.inf}, "horizon must be a finite number > 0"),
        ({"temperature": -0.1}, "temperature must be a finite number >= 0"),
        ({"drift": math.nan}, "drift must be a finite number, got nan"),
    ]:
        with pytest.raises(CtcontrolError, match=message):
            replace(MERTON, **change)
    with pytest.raises(CtcontrolError, match=r"variance must be > 0.*point mass"):
        MERTON.value(Fraction(1.0))
    with pytest.raises(CtcontrolError, match="variance must be a finite number > 0"):
        FractionPolicy(Fraction(1.0))
