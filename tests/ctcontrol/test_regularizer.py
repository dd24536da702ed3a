"""Path KL against closed forms: the half, the clock, the law of the expectation, the mean."""

import math
from dataclasses import replace

import pytest
import torch

from ctcontrol import (
    CtcontrolError,
    Entropy,
    EulerMaruyama,
    Gaussian,
    GaussianPolicy,
    NoiseAbsorbingPolicy,
    PathKL,
    TimeGrid,
    simulate,
)
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.helpers import assert_close, assert_mean, normal, seeded, slope
from tests.problems import GaussianDiffusion, Isotropic, LinearProblem, constant, regulator
from tests.tables import plant

# A Gaussian diffusion whose score is moved by 0.6 − 0.25 y: the path KL by quadrature of the
# moment equations, and what the two classic mistakes would give.
PATH_KL, WRONG_CLOCK, MISSING_HALF = 0.43619701, 0.30863305, 0.87239401
SLOPE, SHIFT = torch.tensor([[0.25]]).double(), torch.tensor([0.6]).double()
ZERO = torch.zeros((), dtype=torch.float64)


def _tilted() -> LinearProblem:
    return GaussianDiffusion().control(kl_weight=1.0)


def _chain_kl(steps: int) -> float:
    grid = TimeGrid.uniform(1.0, steps)
    return -float(_tilted().expected_return(grid, SLOPE, SHIFT, ZERO))


def test_the_chain_of_the_test_tends_to_the_closed_form() -> None:
    """First order, with a constant below 0.7: what the next test allows for its grid."""
    sizes = [100, 200, 400, 800]
    errors = [_chain_kl(n) - PATH_KL for n in sizes]
    assert abs(slope(sizes, errors) + 1) < 0.02
    assert all(abs(e * n) < 0.7 for e, n in zip(errors, sizes, strict=True))


def test_path_kl_of_a_diffusion_is_the_closed_form() -> None:
    linear, grid = _tilted(), TimeGrid.uniform(1.0, 100)
    policy = GaussianPolicy(linear.mean(SLOPE, SHIFT))
    path = simulate(linear.problem, policy, grid, 20_000, generator=seeded(1))
    kl = path.divergence()
    assert_mean(kl, _chain_kl(100))  # without discretisation error
    assert_mean(kl, PATH_KL, bias=0.7 / 100)
    error = 5 * float(kl.std()) / 20_000**0.5 + 0.7 / 100
    assert error < 0.25 * min(abs(WRONG_CLOCK - PATH_KL), abs(MISSING_HALF - PATH_KL))
    assert_close(path.returns(), path.terminal - kl)


def test_path_kl_is_the_mean_log_ratio_of_the_paths() -> None:
    """E^θ log dP^θ/dP^ref = KL and E^θ exp(−log ratio) = 1, drawn from transition densities."""
    linear, grid = _tilted(), TimeGrid.uniform(1.0, 40)
    solver = EulerMaruyama()
    policy = NoiseAbsorbingPolicy(linear.mean(SLOPE, SHIFT), linear.sde, solver, grid)
    reference = NoiseAbsorbingPolicy(linear.mean(0 * SLOPE, 0 * SHIFT), linear.sde, solver, grid)
    path = simulate(linear.problem, policy, grid, 40_000, generator=seeded(2))
    rows = path.transitions()
    with torch.no_grad():
        other = reference.dist(rows.t0, rows.x, None)
    log_ratio = rows.law.log_ratio(other, rows.action).reshape(path.steps, -1).sum(0)
    assert_mean((-log_ratio).exp(), 1.0)
    assert_mean(log_ratio - path.divergence(), 0.0)
    assert_mean(log_ratio, _chain_kl(40))


def test_kl_to_itself_is_zero() -> None:
    linear = regulator()
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.3)
    grid = TimeGrid.uniform(1.2, 4)
    problem = linear.problem
    law = policy.dist(grid.times[:-1], normal(4, 2), None)
    kl = PathKL(policy, 1.0)
    anchor = kl.anchor(grid.times[:-1], normal(4, 2), None)
    ends = (grid.times[:-1], grid.times[1:], normal(4, 2))
    assert_close(kl.amount(EulerMaruyama(), problem.sde, *ends, law, anchor, None), 0.0)


def test_the_mean_is_penalised_and_not_the_draw() -> None:
    """Exploration is no divergence: E|a − s|² would add tr Σ."""
    linear = regulator(kl_weight=1.0)
    grid = TimeGrid.uniform(1.2, 4)
    ends = (grid.times[:-1], grid.times[1:], normal(4, 2, seed=1))
    mean, anchor = normal(4, 2, seed=2), normal(4, 2, seed=3)
    kl = linear.problem.regularizer
    assert kl is not None
    amounts = [
        kl.amount(
            EulerMaruyama(),
            linear.sde,
            *ends,
            Gaussian(mean, torch.full((4,), std, dtype=torch.float64)),
            anchor,
            None,
        )
        for std in (0.0, 10.0)
    ]
    assert torch.equal(amounts[0], amounts[1])
    by_hand = 0.5 * 0.3 * (0.8 / 0.6) ** 2 * (mean - anchor).square().sum(1)
    assert_close(amounts[0], by_hand)


def test_divergence_is_undiscounted_and_returns_are_discounted() -> None:
    linear, grid = regulator(kl_weight=0.7, discount=2.0), TimeGrid.uniform(1.2, 5)
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.3)
    path = simulate(linear.problem, policy, grid, 4, generator=seeded(3))
    weights = torch.exp(-2.0 * grid.times)[:, None]
    cost = 0.7 * path.penalties
    gains = weights[:-1] * (path.rewards * path.lengths - cost)
    assert_close(path.returns(), gains.sum(0) + weights[-1] * path.terminal)
    assert_close(path.divergence(), path.penalties.sum(0))
    assert bool((path.divergence() > 0).all())


def test_dense_volatility_enters_by_its_inverse() -> None:
    lq, grid = plant(), TimeGrid.uniform(1.0, 8)
    gains = normal(2, 3, seed=4).numpy(), normal(2, 3, seed=5).numpy()
    policy, reference = (LinearGaussianPolicy(g, std=0.3) for g in gains)
    problem = replace(lq.problem(), regularizer=PathKL(reference, 0.5))
    path = simulate(problem, policy, grid, 20_000, generator=seeded(6))
    exact = lq.chain(grid.times.numpy()).path_kl(policy.law(), reference.law())
    assert_mean(path.divergence(), exact)


def test_no_noise_means_infinite_kl_and_says_so() -> None:
    solver, grid = EulerMaruyama(), TimeGrid.uniform(1.0, 2)
    ends = (grid.times[:-1], grid.times[1:], normal(2, 2))
    sde = Isotropic(constant(0.0), constant(1.0), constant(0.0))
    with pytest.raises(CtcontrolError, match=r"likelihood ratios and path KL need its inverse"):
        solver.step_kl(sde, *ends, normal(2, 2), normal(2, 2), None)


def test_entropy_pays_for_spread_and_time() -> None:
    """amount = −H(π)Δ, H of a Gaussian in two dimensions: ln(2πe std²)."""
    grid = TimeGrid.from_times([0.0, 0.25, 1.0])
    std = torch.tensor([0.5, 2.0]).double()
    law = Gaussian(normal(2, 2), std)
    amount = Entropy(0.3).amount(
        EulerMaruyama(),
        regulator().sde,
        *(grid.times[:-1], grid.times[1:]),
        law.mean,
        law,
        None,
        None,
    )
    by_hand = [-math.log(2 * math.pi * math.e * s**2) * dt for s, dt in ((0.5, 0.25), (2.0, 0.75))]
    assert_close(amount, torch.tensor(by_hand, dtype=torch.float64))
