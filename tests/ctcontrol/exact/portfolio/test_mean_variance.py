"""Mean-variance investment: the published solution, equations, improvement, simulations."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, EulerMaruyama, ItoAdvantage, TimeGrid, simulate
from ctcontrol.exact.portfolio import Investment, InvestmentPolicy, MeanVariance
from tests.helpers import assert_close, assert_mean, seeded

MARKET = MeanVariance(
    sharpe=0.9, volatility=0.4, horizon=1.0, initial_wealth=1.0, target=1.4, temperature=0.3
)


@st.composite
def markets(draw: st.DrawFn) -> MeanVariance:
    """Good and bad markets, with and without exploration, at any multiplier."""
    return MeanVariance(
        sharpe=draw(st.sampled_from([-1, 1])) * draw(st.floats(0.2, 1.2)),
        volatility=draw(st.floats(0.2, 1.0)),
        horizon=draw(st.floats(0.3, 1.5)),
        initial_wealth=draw(st.floats(-1, 1)),
        target=draw(st.floats(-1, 2)),
        temperature=draw(st.sampled_from([0.0, 0.2])),
        multiplier=draw(st.one_of(st.none(), st.floats(-2, 2))),
    )


laws = st.builds(Investment, st.floats(-2, 2), st.floats(0.05, 1), st.floats(-1, 1))


def size_of(market: MeanVariance, law: Investment) -> float:
    c, T = market.growth(law), market.horizon
    spread = law.variance * math.exp(abs(law.tilt) * T)
    return (1 + abs(c)) * (1 + market.w**2 + spread) * math.exp(abs(c) * T)


@given(markets(), laws, st.floats(0, 1), st.floats(-2, 2))
def test_the_value_solves_its_equation(
    market: MeanVariance, law: Investment, share: float, x: float
) -> None:
    """∂V/∂t + bV' + ½σ²V'' from the torch objects is the rate, and averages to −λ·entropy."""
    t = share * market.horizon
    spread = law.variance * math.exp(law.tilt * (market.horizon - t))
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    u = -law.slope * (x - market.w) + math.sqrt(spread) * nodes
    states = torch.full((4, 1), x, dtype=torch.float64)
    times, actions = torch.full((4,), t, dtype=torch.float64), torch.as_tensor(u)[:, None]
    sde, value = market.problem().sde, market.value(law)
    jet = value.jet(times, states, None, hessian=True)
    assert jet.hessian is not None
    drift = (sde.drift(times, states, actions, None) * jet.gradient).sum(1)
    rate = (
        jet.time + drift + 0.5 * sde.volatility(times, states, actions).trace(jet.hessian)
    ).numpy()
    size = size_of(market, law) * (1 + np.abs(u).max() ** 2)
    q = market.advantage_rate(law, t, np.full(4, x), u)
    assert np.abs(rate - q).max() < 1e-10 * size
    entropy = 0.5 * math.log(2 * math.pi * math.e * spread)
    average = float(weights @ rate) / float(weights.sum())
    assert abs(average + market.temperature * entropy) < 1e-9 * size


@given(markets(), st.floats(0, 1), st.floats(-2, 2))
def test_the_optimal_value_is_the_published_one(
    market: MeanVariance, share: float, x: float
) -> None:
    """Minus the cost of Wang and Zhou (2020)."""
    market = replace(market, temperature=0.4)
    p2, T, t = market.sharpe**2, market.horizon, share * market.horizon
    w, z, s2, lam = market.w, market.target, market.volatility**2, market.temperature
    cost = (x - w) ** 2 * math.exp(-p2 * (T - t)) + lam * p2 / 4 * (T**2 - t**2) - (w - z) ** 2
    cost -= lam / 2 * (p2 * T - math.log(s2 / (math.pi * lam))) * (T - t)
    value = market.value(market.optimal_policy())
    state = torch.tensor([[x]], dtype=torch.float64)
    found = value.at(torch.full_like(state[0], t), state, None)
    assert abs(float(found) + cost) < 1e-10 * size_of(market, market.optimal_policy())


@given(markets())
def test_the_optimum_solves_the_exploratory_bellman_equation(market: MeanVariance) -> None:
    """λ log ∫ e^{q*/λ} du = 0, or max q* = 0 without a temperature."""
    best, u = market.optimal_policy(), np.array([-1.0, 0.0, 1.0])
    for share, x in ((0.0, -0.5), (0.4, 1.2), (1.0, 0.3)):
        low, mid, high = market.advantage_rate(best, share * market.horizon, 0 * u + x, u)
        bend, slope = low + high - 2 * mid, (high - low) / 2
        top = mid - slope**2 / (2 * bend)
        assert bend < 0
        assert -slope / bend == pytest.approx(-best.slope * (x - market.w), abs=1e-9)
        if market.temperature:
            top += 0.5 * market.temperature * math.log(2 * math.pi * market.temperature / -bend)
        assert abs(top) < 1e-9 * size_of(market, best) * (1 + abs(slope / bend)) ** 2


@given(markets(), laws)
def test_two_improvements_from_anywhere_are_optimal(market: MeanVariance, law: Investment) -> None:
    market = replace(market, temperature=0.3)
    once = market.improved(law)
    twice = market.improved(once)
    best = market.optimal_policy()
    assert twice.slope == best.slope
    assert twice.variance == best.variance
    assert twice.tilt == pytest.approx(best.tilt, rel=1e-12)
    J = [market.expected_return(p) for p in (law, once, best)]
    slack = 1e-10 * size_of(market, law)
    assert J[0] <= J[1] + slack
    assert J[1] <= J[2] + slack
    assert market.optimal_return() == J[2]


@given(markets())
def test_the_multiplier_meets_the_target_with_the_least_variance(market: MeanVariance) -> None:
    market = replace(market, multiplier=None)
    mean, variance = market.terminal_moments(market.optimal_policy())
    growth = math.exp(market.sharpe**2 * market.horizon)
    w = (market.target * growth - market.initial_wealth) / (growth - 1)
    scale = 1 + w**2
    assert abs(market.w - w) < 1e-9 * scale
    assert abs(mean - market.target) < 1e-9 * scale
    expected = market.least_variance() + market.exploration_cost()
    assert abs(variance - expected) < 1e-9 * scale


@given(markets(), laws)
def test_the_return_is_made_of_the_moments(market: MeanVariance, law: Investment) -> None:
    mean, variance = market.terminal_moments(law)
    T, w = market.horizon, market.w
    entropy = 0.5 * math.log(2 * math.pi * math.e * law.variance) * T + law.tilt * T**2 / 4
    J = (w - market.target) ** 2 - variance - (mean - w) ** 2 + market.temperature * entropy
    assert abs(market.expected_return(law) - J) < 1e-10 * size_of(market, law)


@given(markets())
def test_exploration_costs_half_the_temperature_times_the_horizon(market: MeanVariance) -> None:
    market = replace(market, temperature=0.3)
    classical = replace(market, temperature=0.0)
    loss = classical.optimal_return() - classical.expected_return(market.optimal_policy())
    assert loss == pytest.approx(market.exploration_cost(), abs=1e-9 * (1 + market.w**2))


def test_a_simulation_has_the_moments_and_the_return() -> None:
    law = Investment(1.2, 0.5, 0.6)
    policy = InvestmentPolicy(law, MARKET.w, MARKET.horizon)
    grid = TimeGrid.uniform(1.0, 50)
    path = simulate(MARKET.problem(), policy, grid, 20_000, generator=seeded(4))
    mean, variance = MARKET.terminal_moments(law)
    final = path.final[:, 0]
    dt = 1 / 50
    assert_mean(final, mean, bias=0.5 * dt)
    assert_mean((final - mean) ** 2, variance, bias=2 * dt)
    assert_mean(path.returns(), MARKET.expected_return(law), bias=2 * dt)
    assert policy.law() == law


def test_the_ito_estimator_recovers_the_exact_rate() -> None:
    law = Investment(1.2, 0.5, 0.6)
    policy = InvestmentPolicy(law, MARKET.w, MARKET.horizon)
    problem, grid = MARKET.problem(), TimeGrid.uniform(1.0, 6)
    path = simulate(problem, policy, grid, 9, generator=seeded(5))
    rates = ItoAdvantage()(problem, EulerMaruyama(), MARKET.value(policy), path)
    for k, t in enumerate(grid.times[:-1].tolist()):
        x, u = path.states[k, :, 0].numpy(), path.actions[k, :, 0].numpy()
        spread = 0.5 * math.exp(0.6 * (1 - t))
        bonus = 0.3 * 0.5 * math.log(2 * math.pi * math.e * spread)
        assert_close(rates[k], torch.as_tensor(MARKET.advantage_rate(law, t, x, u) + bonus))


def test_an_untilted_variance_that_balances_the_growth() -> None:
    """c + α = 0 is a removable singularity; the optimum sits on it."""
    best = MARKET.optimal_policy()
    near = replace(best, tilt=best.tilt + 1e-6)
    gap = MARKET.expected_return(near) - MARKET.expected_return(best)
    assert abs(gap) < 1e-9
    t = torch.tensor([0.3], dtype=torch.float64)
    x = torch.tensor([[0.7]], dtype=torch.float64)
    slopes = [MARKET.value(p).jet(t, x, None).time for p in (best, near)]
    assert_close(slopes[0], slopes[1], 1e-5)


def test_bad_input_is_refused_at_the_door() -> None:
    for change, message in [
        ({"sharpe": 0.0}, "sharpe must be .*other than 0, got 0.0: without an excess return"),
        ({"volatility": 0.0}, "volatility must be a finite number > 0"),
        ({"horizon": -1.0}, "horizon must be a finite number > 0"),
        ({"temperature": -1.0}, "temperature must be a finite number >= 0"),
        ({"target": math.inf}, "target must be a finite number, got inf"),
    ]:
        with pytest.raises(CtcontrolError, match=message):
            replace(MARKET, **change)
    with pytest.raises(CtcontrolError, match=r"variance must be > 0.*point mass"):
        MARKET.value(Investment(1.0))
    with pytest.raises(CtcontrolError, match="variance must be a finite number >= 0"):
        Investment(1.0, -0.1)
    with pytest.raises(CtcontrolError, match="tilt must be a finite number, got nan"):
        Investment(1.0, 0.1, math.nan)
    with pytest.raises(CtcontrolError, match="variance must be a finite number > 0"):
        InvestmentPolicy(Investment(1.0), 2.0, 1.0)
