"""Golden values: each was derived twice by hand and found by an independent program."""

from typing import Any

import numpy as np
import pytest

from ctcontrol import CtcontrolError
from ctcontrol.exact.lq import LinearGaussianLaw
from ctcontrol.exact.tilt import GaussianTilt, VariancePreserving
from tests.ctcontrol.exact.lq.test_functionals import slope


def affine(constant: float, linear: float) -> LinearGaussianLaw:
    """The correction u = constant + linear · x in one dimension."""
    return LinearGaussianLaw([[-linear]], [constant])


SCHEDULE = VariancePreserving(0.1, 8.0)
NONE = affine(0.0, 0.0)


@pytest.fixture
def tilt() -> GaussianTilt:
    return GaussianTilt(
        SCHEDULE, mean=[0.7], covariance=0.5, linear=[1.3], quadratic=0.8, kl_weight=0.5
    )


def marginal_kl(tilt: GaussianTilt, law: LinearGaussianLaw) -> float:
    """KL of the terminal law to the data, both Gaussian."""
    result = tilt.moments(law)
    m, v = result.mean(1.0)[0] - tilt.mean[0], result.covariance(1.0)[0, 0]
    v0 = tilt.covariance[0, 0]
    return 0.5 * (v / v0 + m**2 / v0 - 1 - np.log(v / v0))


def test_the_pretrained_score_brings_the_data_back(tilt: GaussianTilt) -> None:
    result = tilt.moments(NONE)
    for t in (0.0, 0.4, 1.0):
        mean, covariance = tilt.noised(1 - t)
        assert abs(result.mean(t) - mean).max() < 1e-11
        assert abs(result.covariance(t) - covariance).max() < 1e-11


def test_path_and_marginal_divergence(tilt: GaussianTilt) -> None:
    law = affine(0.6, -0.25)
    path, marginal = tilt.path_kl(law, NONE), marginal_kl(tilt, law)
    assert abs(path - 0.43619701) < 1e-8
    assert abs(marginal - 0.18664526) < 1e-8
    # Not with the clock reversed, nor without the factor ½.
    assert abs(path - 0.30863305) > 0.1
    assert abs(path - 0.87239401) > 0.1


def test_policy_gradient(tilt: GaussianTilt) -> None:
    law = affine(0.3, -0.2)
    gradient = tilt.gradient(law)
    assert abs(gradient.offset[0] - 0.19638433) < 1e-8
    assert abs(-gradient.gain[0, 0] - 0.29901913) < 1e-8
    found = slope(lambda by: tilt.expected_return(affine(0.3, -0.2 + by)))
    assert abs(found + gradient.gain[0, 0]) < 1e-9


def test_performance_difference_and_surrogate(tilt: GaussianTilt) -> None:
    law, other = affine(0.3, -0.2), affine(0.9, 0.1)
    exact = tilt.expected_return(other) - tilt.expected_return(law)
    assert abs(exact + 0.909956797) < 1e-9
    assert abs(tilt.performance_difference(law, other) - exact) < 1e-10
    assert abs(tilt.surrogate_gain(law, other) + 0.437970552) < 1e-9


def test_regret_is_the_divergence_from_the_optimum(tilt: GaussianTilt) -> None:
    law, best = affine(0.3, -0.2), tilt.optimal_policy()
    assert abs(tilt.optimal_return() - 0.718416998162) < 1e-11
    regret = tilt.optimal_return() - tilt.expected_return(law)
    assert abs(regret - 0.107904679304) < 1e-11
    assert abs(tilt.kl_weight * tilt.path_kl(law, best) - regret) < 1e-11


def test_policy_iteration_converges_quadratically(tilt: GaussianTilt) -> None:
    """u' = ∇V/κ, the greedy correction for the value of the last."""
    law, regrets = affine(0.3, -0.2), []
    for expected in (0.1079, 0.004419, 7.143e-06, 9.44e-12):
        regrets.append(tilt.optimal_return() - tilt.expected_return(law))
        assert abs(regrets[-1] - expected) < 1e-3 * expected + 2e-12
        value = tilt.value(law).function
        law = LinearGaussianLaw(
            lambda t, v=value: 2 * v.at(t).P / tilt.kl_weight,
            lambda t, v=value: -2 * v.at(t).p / tilt.kl_weight,
        )


def test_the_optimal_score_is_that_of_the_noised_target(tilt: GaussianTilt) -> None:
    best, (mean, spread) = tilt.optimal_policy(), tilt.target()
    for t in (0.0, 0.3, 0.8):
        alpha, noise = SCHEDULE.alpha(1 - t), SCHEDULE.variance(1 - t)
        inverse = 1 / (alpha**2 * spread[0, 0] + noise)
        H, h = tilt.score(t)
        assert abs(H + best.gain(t) - inverse).max() < 1e-10
        assert abs(h + best.offset(t) - inverse * alpha * mean).max() < 1e-10


def test_started_at_its_own_noise_the_optimum_reaches_the_target() -> None:
    arguments: dict[str, Any] = {
        "linear": [1.0, -0.5],
        "quadratic": [[0.5, 0.1], [0.1, 0.3]],
        "kl_weight": 0.6,
    }
    data: dict[str, Any] = {"mean": [0.4, -0.2], "covariance": [[0.6, 0.2], [0.2, 0.9]]}
    mean, spread = GaussianTilt(SCHEDULE, **data, **arguments).target()
    alpha, noise = SCHEDULE.alpha(1.0), SCHEDULE.variance(1.0)
    start = (alpha * mean, alpha**2 * spread + noise * np.eye(2))
    tilt = GaussianTilt(SCHEDULE, **data, **arguments, start=start)
    result = tilt.moments(tilt.optimal_policy())
    assert np.abs(result.mean(1.0) - mean).max() < 1e-10
    assert np.abs(result.covariance(1.0) - spread).max() < 1e-10


def test_a_start_that_ignores_the_reward_falls_short_of_the_target() -> None:
    schedule = VariancePreserving(0.1, 4.0)
    tilt = GaussianTilt(schedule, mean=[0.4], covariance=0.6, linear=[1.1], kl_weight=0.7)
    result = tilt.moments(tilt.optimal_policy())
    assert abs(result.mean(1.0)[0] - 0.4 - 0.86607621) < 1e-8
    assert abs(tilt.target()[0][0] - 0.4 - 0.94285714) < 1e-8
    assert abs(result.covariance(1.0)[0, 0] - 0.6) < 1e-10


def test_what_cannot_be_tilted_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="raise kl_weight"):
        GaussianTilt(
            SCHEDULE, mean=[0.0], covariance=1.0, linear=[0.0], quadratic=-2.0, kl_weight=1.0
        )
    with pytest.raises(CtcontrolError, match="mean must be a vector"):
        GaussianTilt(SCHEDULE, mean=0.0, covariance=1.0, linear=[0.0], kl_weight=1.0)
    with pytest.raises(CtcontrolError, match="beta_max must be at least beta_min = 2"):
        VariancePreserving(2.0, 1.0)
