import math
from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import expm

from ctcontrol.exact.lq import LinearGaussianLaw, LQProblem, Piecewise, Schedule
from tests.ctcontrol.exact.lq.systems import random_law, random_system, systems_with_policies

Case = tuple[LQProblem, LinearGaussianLaw, LinearGaussianLaw]


def moved(law: LinearGaussianLaw, name: str, direction: np.ndarray, by: float) -> LinearGaussianLaw:
    """The policy with one of its schedules shifted."""
    fields = {n: getattr(law, n) for n in ("gain", "offset", "covariance")}
    schedule: Schedule = fields[name]
    if isinstance(schedule, Piecewise):
        fields[name] = Piecewise(schedule.times, schedule.values + by * direction)
    else:
        fields[name] = lambda t: schedule(t) + by * direction
    return LinearGaussianLaw(**fields)


def slope(function: Callable[[float], float], h: float = 1e-4) -> float:
    """Central difference of order four."""
    a, b, c, d = (function(s * h) for s in (-2, -1, 1, 2))
    return (a - 8 * b + 8 * c - d) / (12 * h)


@settings(max_examples=15)
@given(systems_with_policies(), st.integers(0, 100))
def test_the_gradient_is_that_of_the_return(case: Case, seed: int) -> None:
    lq, law, _ = case
    gradient = lq.gradient(law)
    rng = np.random.default_rng(seed)
    for name in ("gain", "offset", "covariance"):
        exact = getattr(gradient, name)
        direction = rng.normal(size=exact.shape)
        if name == "covariance":
            direction = direction + np.swapaxes(direction, -1, -2)
            direction *= 0.02 / np.abs(direction).max()
        found = slope(lambda by, n=name, v=direction: lq.expected_return(moved(law, n, v, by)))
        expected = (exact * direction).sum()
        reach = np.abs(exact).sum() * np.abs(direction).max()
        # a difference of two returns loses the digits that they share
        assert abs(found - expected) < 1e-6 * max(1.0, reach, abs(lq.expected_return(law))), name


@given(systems_with_policies())
def test_performance_difference_identity(case: Case) -> None:
    lq, law, other = case
    before, after = lq.expected_return(law), lq.expected_return(other)
    identity = lq.performance_difference(law, other)
    assert abs(after - before - identity) <= 1e-9 * max(1.0, abs(before), abs(after))
    assert abs(lq.performance_difference(law, law)) <= 1e-10 * max(1.0, abs(before))


@settings(max_examples=15)
@given(systems_with_policies())
def test_no_policy_beats_the_optimum_and_its_regret_is_a_square(case: Case) -> None:
    lq, law, _ = case
    best = lq.optimal_policy()
    regret = lq.optimal_return() - lq.expected_return(law)
    assert regret > 0
    # q of the optimum is −(u − u*)ᵀR(u − u*) up to constants, so the identity gives the regret.
    assert abs(regret + lq.performance_difference(best, law)) <= 1e-9 * max(1.0, regret)
    gradient = lq.gradient(best)
    size = max(1.0, abs(lq.optimal_return()))
    assert max(np.abs(gradient.gain).max(), np.abs(gradient.offset).max()) < 1e-9 * size
    if lq.temperature > 0:
        assert np.abs(gradient.covariance).max() < 1e-9 * size


@settings(max_examples=15)
@given(systems_with_policies(), st.integers(0, 100))
def test_the_surrogate_is_right_to_first_order(case: Case, seed: int) -> None:
    lq, law, _ = case
    gradient = lq.gradient(law).gain
    direction = np.random.default_rng(seed).normal(size=gradient.shape)
    found = slope(lambda by: lq.surrogate_gain(law, moved(law, "gain", direction, by)))
    assert abs(found - (gradient * direction).sum()) < 1e-6 * max(1.0, np.abs(gradient).sum() * 3)


def test_the_surrogate_errs_to_second_order() -> None:
    lq = random_system(5, 2, 2)
    law, direction = random_law(1, lq), np.array([[1.0, -0.5], [0.3, 0.8]])
    errors = []
    for by in (0.1, 0.05, 0.025, 0.0125):
        other = moved(law, "gain", direction, by)
        errors.append(lq.performance_difference(law, other) - lq.surrogate_gain(law, other))
    rates = np.log2(np.abs(np.array(errors[:-1]) / np.array(errors[1:])))
    assert np.all(np.abs(rates - 2) < [0.25, 0.12, 0.06])


def test_moments_of_a_linear_system_by_the_matrix_exponential() -> None:
    lq, t = random_system(6, 3, 2), 0.8
    law = LinearGaussianLaw(np.ones((2, 3)), covariance=1.0)
    closed = lq.A - lq.B @ law.gain(0.0)
    result = lq.moments(law)
    assert np.abs(result.mean(t) - expm(t * closed) @ lq.initial_mean).max() < 1e-11
    noise = np.array(
        [
            [
                quad(
                    lambda s, i=i, j=j: (expm(s * closed) @ lq.diffusion @ expm(s * closed.T))[
                        i, j
                    ],
                    0,
                    t,
                )[0]
                for j in range(3)
            ]
            for i in range(3)
        ]
    )
    C = expm(t * closed) @ lq.initial_covariance @ expm(t * closed.T) + noise
    assert np.abs(result.covariance(t) - C).max() < 1e-10
    assert result.mean(np.array([0.0, t])).shape == (2, 3)
    assert result.covariance(np.array([0.0, t])).shape == (2, 3, 3)


def test_path_kl_of_a_constant_push() -> None:
    # Policies that differ by a constant offset: KL = ½ T |σ⁻¹BΔk|², whatever the state does.
    lq = random_system(8, 2, 2, volatility=[[0.5, 0.2], [0.0, 0.8]])
    K, shift = np.array([[0.4, -0.2], [0.1, 0.3]]), np.array([0.3, -0.7])
    law, reference = LinearGaussianLaw(K, shift), LinearGaussianLaw(K)
    white = np.linalg.solve(lq.volatility, lq.B @ shift)
    assert abs(lq.path_kl(law, reference) - 0.5 * lq.horizon * white @ white) < 1e-12
    assert lq.path_kl(law, law) == 0


def test_path_kl_expects_under_the_first_policy_and_counts_spread() -> None:
    # dX = u dt + σdW, u = −κX against u = 0: KL = ½ κ²/σ² ∫E X² with X an OU process.
    kappa, sigma, T, v0 = 0.8, 0.6, 1.5, 0.4
    lq = LQProblem(
        A=[[0.0]],
        B=[[1.0]],
        Q=[[0.0]],
        R=[[1.0]],
        G=[[0.0]],
        volatility=sigma,
        horizon=T,
        initial_mean=[0.0],
        initial_covariance=v0,
    )
    pulled, free = LinearGaussianLaw([[kappa]], covariance=3.0), LinearGaussianLaw([[0.0]])
    fixed = sigma**2 / (2 * kappa)
    area = fixed * T + (v0 - fixed) * (1 - math.exp(-2 * kappa * T)) / (2 * kappa)
    assert abs(lq.path_kl(pulled, free) - kappa**2 * area / (2 * sigma**2)) < 1e-12
    area = v0 * T + sigma**2 * T**2 / 2
    assert abs(lq.path_kl(free, pulled) - kappa**2 * area / (2 * sigma**2)) < 1e-12


def test_path_kl_is_infinite_where_a_push_meets_no_noise() -> None:
    lq = random_system(9, 2, 1, B=[[1.0], [0.0]], volatility=[[0.0], [1.0]])
    push, none = LinearGaussianLaw(np.zeros((1, 2)), [1.0]), LinearGaussianLaw(np.zeros((1, 2)))
    assert lq.path_kl(push, none) == math.inf
    along = random_system(9, 2, 1, B=[[0.0], [1.0]], volatility=[[0.0], [1.0]])
    assert abs(along.path_kl(push, none) - 0.5) < 1e-12
