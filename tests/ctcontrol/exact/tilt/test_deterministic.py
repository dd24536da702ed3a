"""The probability-flow ODE: its optimum, and how far its samples move."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, TimeGrid, ZeroNoise, simulate
from ctcontrol.exact.lq import LinearGaussianLaw
from ctcontrol.exact.tilt import (
    DeterministicTilt,
    FlowMatching,
    ForwardProcess,
    GaussianTilt,
    VariancePreserving,
    gaussian_kl,
    gaussian_w2,
)
from tests.ctcontrol.exact.tilt.instances import (
    SCHEDULES,
    random_correction,
    random_facts,
    schedules,
    seeds,
)
from tests.helpers import assert_mean

problems = st.builds(
    lambda schedule, seed, d: DeterministicTilt(schedule, **random_facts(seed, d), score_cost=0.8),
    schedules,
    seeds,
    st.integers(1, 3),
)


@settings(max_examples=8)
@given(problems, seeds)
def test_no_correction_is_better(tilt: DeterministicTilt, seed: int) -> None:
    """And the greedy improvement of the optimum is itself."""
    best, law = tilt.optimal_policy(), random_correction(seed, tilt.states)
    assert tilt.optimal_return() > tilt.expected_return(law)
    improved = tilt.improved(best)
    t = 0.4 * tilt.horizon
    assert np.abs(improved.gain(t) - best.gain(t)).max() < 1e-8
    assert np.abs(improved.offset(t) - best.offset(t)).max() < 1e-8


@settings(max_examples=8)
@given(problems)
def test_the_optimal_law_of_the_samples(tilt: DeterministicTilt) -> None:
    result, (mean, covariance) = tilt.moments(tilt.optimal_policy()), tilt.optimal_end()
    assert np.abs(result.mean(tilt.horizon) - mean).max() < 1e-9
    assert np.abs(result.covariance(tilt.horizon) - covariance).max() < 1e-9


@settings(max_examples=8)
@given(problems, seeds)
def test_the_bounds_bound(tilt: DeterministicTilt, seed: int) -> None:
    law = random_correction(seed, tilt.states)
    distance, sharp, bound = tilt.w2(law), tilt.sharp_w2_bound(law), tilt.w2_bound(law)
    assert distance <= sharp * (1 + 1e-9)
    assert sharp <= math.sqrt(-math.expm1(-tilt.horizon)) * bound * (1 + 1e-9)


def test_golden_distance_of_a_shift() -> None:
    """θ₀∫½β(v/S)^½: the sharp bound is attained, path KL is infinite."""
    tilt = DeterministicTilt(
        VariancePreserving(0.1, 8.0), mean=[0.3], covariance=0.5, linear=[1.0], score_cost=1.0
    )
    shift = LinearGaussianLaw([[0.0]], [0.4])
    assert abs(tilt.w2(shift) - 0.61692584) < 1e-8
    assert abs(tilt.sharp_w2_bound(shift) - 0.61692584) < 1e-8
    assert tilt.w2_bound(shift) > 0.7
    assert tilt.path_kl(shift, tilt.pretrained) == math.inf


def test_the_optimum_is_the_limit_of_little_noise() -> None:
    """κ₀ = 4η²κ of a stochastic sampler costs ½κ g²|u|² as η → 0."""
    facts = random_facts(3, 2)
    facts["quadratic"] = 0.4
    schedule, eta = FlowMatching(0.95), 1e-3
    limit = DeterministicTilt(schedule, **facts, score_cost=0.8).optimal_policy()
    noisy = GaussianTilt(schedule, **facts, kl_weight=0.8 * 4 * eta**2, eta=eta)
    for t in (0.0, 0.5, 0.9):
        assert np.abs(noisy.optimal_policy().gain(t) - limit.gain(t)).max() < 1e-4
        assert np.abs(noisy.optimal_policy().offset(t) - limit.offset(t)).max() < 1e-4


@pytest.mark.parametrize("schedule", [SCHEDULES[0], SCHEDULES[3]], ids=lambda s: type(s).__name__)
def test_simulation(schedule: ForwardProcess, generator: torch.Generator) -> None:
    tilt = DeterministicTilt(schedule, **random_facts(2, 2), score_cost=0.8)
    steps, law = 200, tilt.optimal_policy()
    path = simulate(
        tilt.problem(),
        tilt.score_policy(law),
        TimeGrid.uniform(tilt.horizon, steps),
        4000,
        generator=generator,
        noise=ZeroNoise(),
    )
    assert_mean(path.states[-1], torch.tensor(tilt.optimal_end()[0]), bias=5 / steps)
    assert_mean(path.returns(), tilt.optimal_return(), bias=5 / steps)


def test_distances_between_gaussians() -> None:
    one = np.array([0.5, 0.0]), np.diag([1.0, 4.0])
    other = np.array([0.0, 1.0]), np.diag([2.25, 1.0])
    assert gaussian_w2(one, other) == pytest.approx(math.sqrt(0.25 + 1 + 0.25 + 1), rel=1e-12)
    assert gaussian_w2(one, one) < 1e-7
    expected = 0.5 * (1 / 2.25 + 4 - 2 + 0.25 / 2.25 + 1 + math.log(2.25 / 4))
    assert gaussian_kl(one, other) == pytest.approx(expected, rel=1e-12)
    assert gaussian_kl(one, one) == 0
    point = np.zeros(2), np.zeros((2, 2))
    assert gaussian_w2(point, other) == pytest.approx(math.sqrt(1 + 3.25), rel=1e-12)


def test_a_reward_that_wins_over_the_penalty_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="the reward grows faster"):
        DeterministicTilt(
            SCHEDULES[0], mean=[0.0], covariance=1.0, linear=[0.0], quadratic=-2.0, score_cost=0.1
        )
