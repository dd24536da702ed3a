import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, Estimate, TimeGrid, simulate
from ctcontrol.exact.tilt import (
    GaussianMixture,
    GaussianTilt,
    MixtureTilt,
    VariancePreserving,
)
from tests.ctcontrol.exact.tilt.instances import SCHEDULES

GOLDEN = MixtureTilt(
    VariancePreserving(0.1, 4.0),
    GaussianMixture.of([0.3, 0.7], [[-1.0], [1.5]], [0.2, 0.4]),
    linear=[0.9],
    quadratic=0.5,
    kl_weight=0.6,
)


def random_tilt(seed: int, d: int, components: int = 3) -> MixtureTilt:
    rng = np.random.default_rng([seed, d])
    root = rng.normal(size=(components, d, d)) / np.sqrt(d)
    spread = root @ np.swapaxes(root, 1, 2) + 0.2 * np.eye(d)
    slope = rng.normal(size=(d, d))
    return MixtureTilt(
        SCHEDULES[seed % len(SCHEDULES)],
        GaussianMixture.of(
            rng.uniform(0.2, 1, components), rng.normal(size=(components, d)), spread
        ),
        linear=rng.normal(size=d),
        quadratic=0.3 * slope @ slope.T,
        kl_weight=float(rng.uniform(0.5, 2)),
    )


tilts = st.builds(random_tilt, st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3))


def rows(tilt: MixtureTilt, seed: int, latest: float = 0.97) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    t = latest * tilt.schedule.horizon * torch.rand(6, generator=generator, dtype=torch.float64)
    return t, torch.randn(6, tilt.data.dimension, generator=generator, dtype=torch.float64)


def test_golden_value_and_score() -> None:
    t, x = torch.tensor([0.4], dtype=torch.float64), torch.tensor([[0.35]], dtype=torch.float64)
    assert abs(float(GOLDEN.value().at(t, x, None)) - 0.5553201785) < 1e-10
    assert abs(float(GOLDEN.optimal_score(t, x, None)) - 1.0157630698) < 1e-9
    assert abs(float(GOLDEN.target.mean()) - 1.5144) < 5e-5
    assert abs(float(GOLDEN.data.mean()) - 0.75) < 1e-14


def test_started_without_the_reward_the_optimum_falls_short() -> None:
    # E Y_T = E[E*[X_0 | X_T = Y_0]], by Tweedie's formula for the target.
    x, weights = GOLDEN.start_nodes(64)
    t = torch.zeros_like(x[:, 0])
    alpha, variance = GOLDEN.level(t)
    denoised = (x[:, 0] + variance * GOLDEN.optimal_score(t, x, None)[:, 0]) / alpha
    assert abs(float(weights @ denoised) - 1.4647) < 5e-5


@given(tilts, st.integers(0, 1000))
def test_the_value_solves_the_equation_of_optimal_control(tilt: MixtureTilt, seed: int) -> None:
    """∂V/∂t + (−fx + g²s)·∇V + ½g²ΔV + g²/(2κ)|∇V|² = 0."""
    t, x = rows(tilt, seed)
    problem, jet = tilt.problem(), tilt.value().jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    drift = problem.sde.drift(t, x, tilt.pretrained_score(t, x, None), None)
    volatility = problem.sde.volatility(t, x, x)
    square = volatility.mul(jet.gradient).square().sum(1) / (2 * tilt.kl_weight)
    residual = jet.time + (drift * jet.gradient).sum(1) + volatility.trace(jet.hessian) / 2 + square
    scale = 1 + jet.time.abs() + square
    assert float((residual / scale).abs().max()) < 1e-9


@given(tilts, st.integers(0, 1000))
def test_the_optimal_score_is_the_pretrained_one_plus_the_gradient(
    tilt: MixtureTilt, seed: int
) -> None:
    t, x = rows(tilt, seed)
    pretrained, gradient = tilt.pretrained_score(t, x, None), tilt.value().jet(t, x, None).gradient
    expected = pretrained + gradient / tilt.kl_weight
    assert torch.allclose(tilt.optimal_score(t, x, None), expected, rtol=1e-9, atol=1e-9)


@given(tilts, st.integers(0, 1000))
def test_the_value_ends_at_the_reward(tilt: MixtureTilt, seed: int) -> None:
    _, x = rows(tilt, seed)
    end = torch.full((6,), tilt.schedule.horizon, dtype=torch.float64)
    value, reward = tilt.value().at(end, x, None), tilt.problem().reward.terminal(x, None)
    assert torch.allclose(value, reward, rtol=1e-9, atol=1e-9)


@given(tilts, st.integers(0, 1000))
def test_the_value_without_control_solves_the_linear_equation(tilt: MixtureTilt, seed: int) -> None:
    """∂V/∂t + (−fx + g²s)·∇V + ½g²ΔV = 0, and V ends at the reward."""
    t, x = rows(tilt, seed)
    problem, value = tilt.problem(), tilt.pretrained_value()
    jet = value.jet(t, x, None, hessian=True)
    assert jet.hessian is not None
    drift = problem.sde.drift(t, x, tilt.pretrained_score(t, x, None), None)
    volatility = problem.sde.volatility(t, x, x)
    pull, spread = (drift * jet.gradient).sum(1), volatility.trace(jet.hessian) / 2
    scale = 1 + jet.time.abs() + pull.abs() + spread.abs()
    assert float(((jet.time + pull + spread) / scale).abs().max()) < 1e-9
    # Less than the optimum, which may also stay with the pretrained score.
    assert bool((jet.value <= tilt.value().at(t, x, None) + 1e-9).all())
    end = torch.full((6,), tilt.schedule.horizon, dtype=torch.float64)
    assert torch.allclose(value.at(end, x, None), tilt.reward(x), rtol=1e-9, atol=1e-9)


@given(tilts)
def test_the_tilt_is_normalized_and_reweighs(tilt: MixtureTilt) -> None:
    """log p* = log p + r/κ − log Z everywhere."""
    _, x = rows(tilt, 0)
    clean = torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    ratio = tilt.target.log_prob(x, *clean) - tilt.data.log_prob(x, *clean)
    expected = tilt.reward(x) / tilt.kl_weight - tilt.log_normalizer
    assert torch.allclose(ratio, expected, rtol=1e-9, atol=1e-9)
    assert abs(float(tilt.target.weights.sum()) - 1) < 1e-12


def test_one_component_is_the_linear_quadratic_problem() -> None:
    schedule = VariancePreserving(0.1, 8.0)
    K, b, kappa = [[0.5, 0.1], [0.1, 0.3]], [1.0, -0.5], 0.6
    mean, spread = [0.4, -0.2], [[0.6, 0.2], [0.2, 0.9]]
    data = GaussianMixture.of([1.0], [mean], [spread])
    mixture = MixtureTilt(schedule, data, linear=b, quadratic=K, kl_weight=kappa)
    gaussian = GaussianTilt(
        schedule, mean=mean, covariance=spread, linear=b, quadratic=K, kl_weight=kappa
    )
    t, x = rows(mixture, 3)
    exact = gaussian.value(gaussian.optimal_policy())
    assert torch.allclose(mixture.value().at(t, x, None), exact.at(t, x, None), atol=1e-9)
    jets = mixture.value().jet(t, x, None), exact.jet(t, x, None)
    assert torch.allclose(jets[0].time, jets[1].time, atol=1e-7)
    assert torch.allclose(jets[0].gradient, jets[1].gradient, atol=1e-9)
    assert abs(mixture.optimal_return() - gaussian.optimal_return()) < 1e-9


def test_samples_have_the_moments_of_the_mixture(generator: torch.Generator) -> None:
    data = random_tilt(1, 2).data
    x = data.sample(40_000, generator)
    for i in range(2):
        estimate = Estimate.of(x[:, i])
        assert abs(estimate.mean - float(data.mean()[i])) < 5 * estimate.stderr
    centered = x - data.mean()
    for i, j in ((0, 0), (0, 1), (1, 1)):
        estimate = Estimate.of(centered[:, i] * centered[:, j])
        assert abs(estimate.mean - float(data.covariance()[i, j])) < 5 * estimate.stderr


def test_simulated_optimum_earns_the_optimal_return(generator: torch.Generator) -> None:
    """Two grids extrapolate the step away; the pretrained score earns E r(X_0), which is less."""
    problem, best = GOLDEN.problem(), GOLDEN.optimal_policy()
    coarse, fine = (
        simulate(problem, best, TimeGrid.uniform(1.0, steps), 16_000, generator=generator)
        for steps in (50, 100)
    )
    first, second = Estimate.of(coarse.returns()), Estimate.of(fine.returns())
    limit = 2 * second.mean - first.mean
    stderr = math.hypot(2 * second.stderr, first.stderr)
    exact = GOLDEN.optimal_return()
    assert abs(limit - exact) < 4 * stderr
    assert stderr < 0.02
    data = GOLDEN.data
    moment = float(data.covariance()[0, 0] + data.mean()[0] ** 2)
    pretrained = 0.9 * float(data.mean()) - 0.25 * moment
    assert exact - pretrained > 20 * stderr
    # E[r] − J* is what the penalty collected: κ nats of path divergence.
    nats = Estimate.of(fine.divergence())
    earned = Estimate.of(fine.terminal)
    assert abs(earned.mean - GOLDEN.kl_weight * nats.mean - second.mean) < 1e-9


def test_float32_states_stay_float32() -> None:
    t, x = torch.tensor([0.4]), torch.tensor([[0.35]])
    assert GOLDEN.optimal_score(t, x, None).dtype == torch.float32
    assert GOLDEN.value().at(t, x, None).dtype == torch.float32
    assert abs(float(GOLDEN.value().at(t, x, None)) - 0.55532) < 1e-4


def test_bad_mixtures_are_refused() -> None:
    with pytest.raises(CtcontrolError, match="weights must be positive"):
        GaussianMixture.of([1.0, 0.0], [[0.0], [1.0]], [1.0, 1.0])
    with pytest.raises(CtcontrolError, match=r"covariances must have shape \(2, 1, 1\)"):
        GaussianMixture.of([1.0, 1.0], [[0.0], [1.0]], [[1.0, 1.0]])
    with pytest.raises(CtcontrolError, match="covariance 1 must be positive definite"):
        GaussianMixture.of([1.0, 1.0], [[0.0], [1.0]], [1.0, -1.0])
    with pytest.raises(CtcontrolError, match="raise kl_weight"):
        MixtureTilt(GOLDEN.schedule, GOLDEN.data, linear=[0.0], quadratic=-9.0, kl_weight=1.0)
    wide = MixtureTilt(
        GOLDEN.schedule,
        GaussianMixture.of([1.0], [[0.0] * 4], [1.0]),
        linear=[1.0] * 4,
        kl_weight=1.0,
    )
    with pytest.raises(CtcontrolError, match="at most 3 dimensions, got 4"):
        wide.optimal_return()
