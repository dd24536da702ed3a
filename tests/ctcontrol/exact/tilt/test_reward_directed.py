"""The Gaussian instance of reward-directed q-learning: value, policy, q-function, both samplers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, TimeGrid, simulate
from ctcontrol.exact.tilt import FlowMatching, RewardDirected, VariancePreserving
from tests.ctcontrol.exact.tilt.instances import SCHEDULES, random_facts, seeds
from tests.helpers import assert_mean

FACTS: dict[str, Any] = {
    "schedule": VariancePreserving(0.1, 5.1),
    "mean": [0.3],
    "covariance": 0.5,
    "linear": [0.9],
    "quadratic": 0.6,
    "reward_weight": 1.4,
    "temperature": 0.2,
}
GOLDEN = RewardDirected(**FACTS)

problems = st.builds(
    lambda schedule, seed, d, ode: RewardDirected(
        schedule, **random_facts(seed, d), reward_weight=1.2, temperature=0.3, deterministic=ode
    ),
    st.sampled_from([SCHEDULES[0], SCHEDULES[3]]),  # where g does not vanish
    seeds,
    st.integers(1, 3),
    st.booleans(),
)


def test_golden_values() -> None:
    y = np.array([0.45])
    assert abs(GOLDEN.optimal_value(0.0, y) - 0.1833918511) < 1e-10
    value = GOLDEN.value(GOLDEN.optimal_policy()).function.at(0.0)
    assert abs(float(value(y)) - 0.1833918511) < 1e-10
    mean, covariance = GOLDEN.target()
    assert abs(mean[0] - 0.5082644628) < 1e-10
    assert abs(covariance[0, 0] - 0.4132231405) < 1e-10
    # Not the tilt by e^{βh}, as if the penalty were the KL: N(0.654930, 0.352113).
    assert abs(covariance[0, 0] - 0.352113) > 0.05


@settings(max_examples=10)
@given(problems, seeds)
def test_the_value_of_the_optimum(tilt: RewardDirected, seed: int) -> None:
    """The moment equations and the closed form agree, for the SDE and the ODE."""
    function = tilt.value(tilt.optimal_policy()).function
    y = np.random.default_rng(seed).normal(size=tilt.states)
    for t in (0.0, 0.6):
        expected = tilt.optimal_value(t, y)
        assert abs(float(function.at(t)(y)) - expected) < 1e-9 * max(1.0, abs(expected))


@settings(max_examples=10)
@given(problems, seeds)
def test_the_q_function_is_normalized(tilt: RewardDirected, seed: int) -> None:
    """q* = −g²|a − μ*|² − ½θd log(πθ/g²), so that ∫e^{q/θ}da = 1."""
    rng = np.random.default_rng(seed)
    law, t = tilt.optimal_policy(), 0.3
    y, a = rng.normal(size=(2, tilt.states))
    g2, theta = tilt.schedule.intensity(tilt.horizon - t), tilt.temperature
    best = law.offset(t) - law.gain(t) @ y
    expected = -g2 * ((a - best) ** 2).sum() - 0.5 * theta * tilt.states * np.log(
        np.pi * theta / g2
    )
    q = float(tilt.advantage_rate(law)(t, y, a))
    assert abs(q - expected) < 1e-9 * max(1.0, abs(expected))
    assert np.allclose(law.covariance(t), theta / (2 * g2) * np.eye(tilt.states))
    # the mean leads along the value's gradient, half of it for the SDE, a quarter for the ODE
    slope = tilt.value(law).function.at(t).gradient(y)
    assert np.abs(best - slope * (0.5 if tilt.eta else 0.25)).max() < 1e-9


def test_the_optimum_of_the_sde_ends_at_the_tilt() -> None:
    mean, covariance = GOLDEN.target()
    T, alpha = GOLDEN.horizon, GOLDEN.schedule.alpha(GOLDEN.horizon)
    noised = alpha * mean, alpha**2 * covariance + GOLDEN.schedule.variance(T) * np.eye(1)
    tilt = RewardDirected(**FACTS, start=noised)
    assert np.abs(tilt.optimal_end()[0] - mean).max() < 1e-12
    assert np.abs(tilt.optimal_end()[1] - covariance).max() < 1e-12
    result = tilt.moments(tilt.optimal_policy())
    assert np.abs(result.mean(T) - mean).max() < 1e-10


def test_exploration_costs_its_variance(generator: torch.Generator) -> None:
    steps = 100
    path = simulate(
        GOLDEN.problem(),
        GOLDEN.score_policy(GOLDEN.optimal_policy()),
        TimeGrid.uniform(1.0, steps),
        20_000,
        generator=generator,
    )
    assert_mean(path.returns(), GOLDEN.optimal_return(), bias=3 / steps)
    # The drawn scores differ from the pretrained one by at least their own spread: θ/2 a unit.
    assert float(path.rewards.mean()) < -0.5 * GOLDEN.temperature


def test_what_has_no_answer_is_refused() -> None:
    flow: dict[str, Any] = {**FACTS, "schedule": FlowMatching()}
    with pytest.raises(CtcontrolError, match="g vanishes at the data"):
        RewardDirected(**flow)
    flow["temperature"] = 0.0
    assert RewardDirected(**flow).eta == 1
    with pytest.raises(CtcontrolError, match="does not end at a tilted law"):
        RewardDirected(**FACTS, deterministic=True).target()
