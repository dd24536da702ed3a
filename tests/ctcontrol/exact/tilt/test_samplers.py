"""Gaussian data under every forward process and sampler: moments, optima, starts."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, TimeGrid, simulate
from ctcontrol.exact.lq import LinearQuadraticSystem
from ctcontrol.exact.tilt import (
    FlowMatching,
    ForwardProcess,
    GaussianTilt,
    MixtureTilt,
    VariancePreserving,
)
from ctcontrol.exact.tilt import GaussianMixture as Mixture
from tests.ctcontrol.exact.tilt.instances import (
    SCHEDULES,
    random_correction,
    random_tilt,
    seeds,
    tilts,
)
from tests.helpers import assert_mean


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-9) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * max(1.0, float(np.abs(b).max())))


@settings(max_examples=15)
@given(tilts)
def test_every_sampler_brings_the_data_back(tilt: GaussianTilt) -> None:
    result = tilt.moments(tilt.pretrained)
    for share in (0.0, 0.5, 1.0):
        t = share * tilt.horizon
        mean, covariance = tilt.noised(tilt.horizon - t)
        assert close(result.mean(t), mean)
        assert close(result.covariance(t), covariance)


@settings(max_examples=15)
@given(tilts, st.floats(0.0, 0.9))
def test_transition_of_the_pretrained_sampler(tilt: GaussianTilt, share: float) -> None:
    """Φ, φ and P solve the backward equations Φ̇ = −ΦA, φ̇ = −Φf, Ṗ = −ΦΞΦᵀ."""
    h = 1e-4 * tilt.horizon
    t = share * tilt.horizon + 2 * h
    Phi, shift, P = tilt.transition(tilt.horizon)
    assert close(Phi, np.eye(tilt.states))
    assert close(shift, np.zeros(tilt.states))
    assert close(P, np.zeros_like(P))
    Phi = tilt.transition(t)[0]
    now = tilt.coefficients(t)

    def rate(i: int) -> np.ndarray:
        a, b, c, d = (tilt.transition(t + k * h)[i] for k in (-2, -1, 1, 2))
        return (a - 8 * b + 8 * c - d) / (12 * h)

    assert close(rate(0), -Phi @ now.A, 1e-7)
    assert close(rate(1), -Phi @ now.f, 1e-7)
    assert close(rate(2), -Phi @ now.diffusion @ Phi.T, 1e-7)


@settings(max_examples=10)
@given(tilts)
def test_the_optimum_is_that_of_the_riccati_equation(tilt: GaussianTilt) -> None:
    assume(tilt.schedule.intensity(0.0) > 0)  # elsewhere R vanishes at the end
    best, riccati = tilt.optimal_policy(), LinearQuadraticSystem.optimal_policy(tilt)
    for share in (0.0, 0.3, 0.9):
        t = share * tilt.horizon
        assert close(best.gain(t), riccati.gain(t), 1e-8)
        assert close(best.offset(t), riccati.offset(t), 1e-8)


@settings(max_examples=10)
@given(tilts)
def test_the_optimal_law_of_the_samples(tilt: GaussianTilt) -> None:
    result = tilt.moments(tilt.optimal_policy())
    mean, covariance = tilt.optimal_end()
    assert close(result.mean(tilt.horizon), mean)
    assert close(result.covariance(tilt.horizon), covariance)


@settings(max_examples=10)
@given(tilts)
def test_a_tilted_start_removes_the_bias_of_every_sampler(tilt: GaussianTilt) -> None:
    repaired = tilt.started_at(tilt.tilted_start())
    mean, covariance = repaired.target()
    end = repaired.optimal_end()
    assert close(end[0], mean)
    assert close(end[1], covariance)
    result = repaired.moments(repaired.optimal_policy())
    assert close(result.mean(tilt.horizon), mean)
    if tilt.eta < 0.5:  # little noise forgets little of the start
        assert not close(tilt.optimal_end()[0], mean, 1e-3)


@given(seeds, st.integers(1, 3), st.sampled_from(SCHEDULES))
def test_the_tilted_start_of_the_reverse_sde_is_the_noised_target(
    seed: int, d: int, schedule: ForwardProcess
) -> None:
    tilt = random_tilt(schedule, seed, d, 1.0)
    (mean, spread), T = tilt.target(), schedule.horizon
    alpha = schedule.alpha(T)
    start = tilt.tilted_start()
    assert close(start[0], alpha * mean)
    assert close(start[1], alpha**2 * spread + schedule.variance(T) * np.eye(d))
    # and the optimal score is the score of the noised target on the way
    best, t = tilt.optimal_policy(), 0.4 * T
    alpha, noise = schedule.alpha(T - t), schedule.variance(T - t)
    inverse = np.linalg.inv(alpha**2 * spread + noise * np.eye(d))
    H, h = tilt.score(t)
    assert close(H + best.gain(t), inverse)
    assert close(h + best.offset(t), inverse @ (alpha * mean))


@settings(max_examples=4)
@given(tilts, seeds)
def test_regret_is_the_divergence_from_the_optimum(tilt: GaussianTilt, seed: int) -> None:
    law, best = random_correction(seed, tilt.states), tilt.optimal_policy()
    regret = tilt.optimal_return() - tilt.expected_return(law)
    assert abs(tilt.kl_weight * tilt.path_kl(law, best) - regret) < 1e-9 * max(1.0, regret)


@settings(max_examples=4)
@given(tilts, seeds)
def test_path_and_marginal_divergence_differ_by_the_gap(tilt: GaussianTilt, seed: int) -> None:
    law = random_correction(seed, tilt.states)
    nats = tilt.divergence(law)
    assert abs(nats.path - nats.marginal - nats.gap) < 1e-9 * max(1.0, nats.path)
    assert nats.gap > 0
    other = tilt.divergence(law, random_correction(seed + 1, tilt.states))
    assert abs(other.path - other.marginal - other.gap) < 1e-9 * max(1.0, other.path)


def test_golden_divergences() -> None:
    tilt = GaussianTilt(SCHEDULES[0], mean=[0.7], covariance=0.5, linear=[1.3], kl_weight=0.5)
    nats = tilt.divergence(type(tilt.pretrained)([[0.25]], [0.6]))
    assert abs(nats.path - 0.43619701) < 1e-8
    assert abs(nats.marginal - 0.18664526) < 1e-8
    assert abs(nats.gap - 0.24955174) < 1e-8


@pytest.mark.parametrize(
    ("eta", "shift"), [(1.0, 0.86607621), (0.7, 0.66696359), (0.3, 0.19050950)]
)
def test_golden_bias_of_the_start(eta: float, shift: float) -> None:
    schedule = VariancePreserving(0.1, 4.0)
    tilt = GaussianTilt(schedule, mean=[0.4], covariance=0.6, linear=[1.1], kl_weight=0.7, eta=eta)
    assert abs(tilt.mean_shift()[0] - shift) < 1e-8
    assert abs(tilt.optimal_end()[0][0] - 0.4 - shift) < 1e-8
    assert abs(tilt.optimal_end()[1][0, 0] - 0.6) < 1e-12
    simulated = tilt.moments(tilt.optimal_policy()).mean(1.0)[0] - 0.4
    assert abs(simulated - shift) < 1e-8
    alpha = schedule.alpha(1.0)
    correlation = alpha**2 * 0.6 / (alpha**2 * 0.6 + schedule.variance(1.0))
    assert abs(correlation - 0.0814) < 5e-5
    assert abs((1 - correlation ** (eta**2)) * 0.6 * 1.1 / 0.7 - shift) < 1e-8


@settings(max_examples=3)
@given(tilts, seeds, st.sampled_from([0.0, 0.5, 3.0]))
def test_what_an_improvement_gains(tilt: GaussianTilt, seed: int, proximity: float) -> None:
    """J(u′) − J(u) = (½w + p)E∫g²|u′ − u|² under u′: never a loss, whatever the proximity p."""
    law = random_correction(seed, tilt.states)
    new = tilt.improved(law, proximity)
    squares = 2 * (tilt.eta / tilt.score_gain) ** 2 * tilt.path_kl(new, law)
    gain = tilt.expected_return(new) - tilt.expected_return(law)
    expected = (0.5 * tilt.score_cost + proximity) * squares
    assert abs(gain - expected) < 1e-9 * max(1.0, expected)
    assert gain > 0


def test_policy_iteration_squares_the_regret() -> None:
    tilt = random_tilt(FlowMatching(0.95), 4, 1, 0.7)
    law, best, regrets = random_correction(1, 1), tilt.optimal_return(), []
    for _ in range(3):
        law = tilt.improved(law)
        regrets.append(best - tilt.expected_return(law))
    assert regrets[1] < 0.5 * regrets[0] ** 2
    assert regrets[2] < 2 * regrets[1] ** 2 + 1e-10


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_one_component_is_the_mixture(schedule: ForwardProcess) -> None:
    """Two programs: moment equations, and logarithms of densities."""
    tilt = random_tilt(schedule, 3, 2, 1.0)
    data = Mixture.of([1.0], [tilt.mean], [tilt.covariance])
    mixture = MixtureTilt(
        schedule, data, linear=tilt.linear, quadratic=tilt.quadratic, kl_weight=0.8
    )
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64) * schedule.horizon
    x = torch.tensor([[0.3, -1.0], [0.8, 0.2], [-0.4, 0.1]], dtype=torch.float64)
    first, second = mixture.value().jet(t, x, None), tilt.value(tilt.optimal_policy())
    jet = second.jet(t, x, None)
    assert torch.allclose(first.value, jet.value, atol=1e-9)
    assert torch.allclose(first.gradient, jet.gradient, atol=1e-8)
    assert torch.allclose(first.time, jet.time, atol=1e-6)
    assert abs(mixture.optimal_return() - tilt.optimal_return()) < 1e-9
    free, uncontrolled = mixture.pretrained_value(), tilt.value(tilt.pretrained)
    assert torch.allclose(free.at(t, x, None), uncontrolled.at(t, x, None), atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "eta"),
    [(SCHEDULES[2], 0.6), (SCHEDULES[3], 1.0), (FlowMatching(0.9), 0.6), (FlowMatching(0.9), 1.0)],
    ids=lambda v: str(v) if isinstance(v, float) else type(v).__name__,
)
def test_simulation_earns_what_the_equations_say(
    schedule: ForwardProcess, eta: float, generator: torch.Generator
) -> None:
    tilt = random_tilt(schedule, 7, 2, eta)
    law = tilt.optimal_policy()
    steps = 100
    path = simulate(
        tilt.problem(),
        tilt.score_policy(law),
        TimeGrid.uniform(tilt.horizon, steps),
        3000,
        generator=generator,
    )
    bias = 8.0 / steps
    mean, covariance = tilt.optimal_end()
    assert_mean(path.states[-1], torch.tensor(mean), bias=bias)
    gap = path.states[-1] - torch.tensor(mean)
    assert_mean(gap[:, 0] * gap[:, 1], float(covariance[0, 1]), bias=bias)
    assert_mean(gap[:, 0] ** 2, float(covariance[0, 0]), bias=bias)
    assert_mean(path.divergence(), tilt.path_kl(law, tilt.pretrained), bias=bias)
    assert_mean(path.returns(), tilt.optimal_return(), bias=bias)


def test_what_has_no_answer_is_refused() -> None:
    facts: dict[str, Any] = {
        "mean": [0.0],
        "covariance": 1.0,
        "linear": [1.0],
        "kl_weight": 1.0,
    }
    with pytest.raises(CtcontrolError, match=r"eta must be > 0, got 0\.0"):
        GaussianTilt(SCHEDULES[0], **facts, eta=0.0)
    curved = GaussianTilt(SCHEDULES[0], **facts, quadratic=0.5)
    with pytest.raises(CtcontrolError, match="that of a linear reward"):
        curved.mean_shift()
    with pytest.raises(CtcontrolError, match="singular covariance"):
        curved.started_at(([0.0], 0.0)).divergence(curved.pretrained)
    # The target exists, but not from this sampler: Γ grows beyond V.
    with pytest.raises(CtcontrolError, match="raise kl_weight"):
        GaussianTilt(SCHEDULES[0], **facts, quadratic=-1.1)
