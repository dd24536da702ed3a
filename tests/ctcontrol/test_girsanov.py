"""Likelihood ratios of paths, and the KL they average to, against closed forms."""

import pytest
import torch

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.helpers import assert_close, assert_mean, seeded
from tests.problems import GaussianDiffusion, Isotropic, QuadraticReward, constant
from tests.tables import plant

GRID = ct.TimeGrid.from_times([0, 0.1, 0.25, 0.6, 1.0])
GAIN, SHIFT = [[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]], [0.2, -0.1]


def _pair(std: float = 0.0) -> tuple[LinearGaussianPolicy, LinearGaussianPolicy]:
    here = LinearGaussianPolicy(GAIN, SHIFT, std=std)
    return here, LinearGaussianPolicy([[0.1, 0.1, 0.2], [0.0, 0.3, 0.0]], [0.0, 0.1], std=std)


def _rollout(
    std: float, batch: int = 20_000
) -> tuple[ct.ControlProblem, LinearGaussianPolicy, LinearGaussianPolicy, ct.Trajectory]:
    problem, (policy, reference) = plant().problem(), _pair(std)
    path = ct.simulate(problem, policy, GRID, batch, generator=seeded(1))
    return problem, policy, reference, path


def test_the_inverse_ratio_of_paths_averages_to_one() -> None:
    """With dense noise; under the policy, not under the reference."""
    problem, policy, reference, path = _rollout(0.0)
    log_ratio = ct.path_log_ratio(problem, policy, reference, path)
    assert log_ratio.shape == (20_000,)
    assert_mean((-log_ratio).exp(), 1.0)
    assert float(log_ratio.exp().mean()) > 1.05


def test_the_ratio_of_paths_is_that_of_the_gaussian_steps() -> None:
    """log N(x′; m, C) − log N(x′; m_ref, C), C = σσᵀΔ, by torch.distributions."""
    problem, policy, reference, path = _rollout(0.0, batch=7)
    sigma = torch.tensor(plant().volatility)
    total = torch.zeros(7, dtype=torch.float64)
    for k, dt in enumerate(GRID.lengths.tolist()):
        t, x = path.times(k), path.states[k]
        logs = []
        for p in (policy, reference):
            mean = x + dt * problem.sde.drift(t, x, p.dist(t, x, None).mean, None)
            law = torch.distributions.MultivariateNormal(mean, dt * sigma @ sigma.mT)
            logs.append(law.log_prob(path.states[k + 1]))
        total += logs[0] - logs[1]
    assert_close(ct.path_log_ratio(problem, policy, reference, path), total, 1e-9)


def test_path_kl_is_that_of_the_chain() -> None:
    """Three ways: recorded formula, mean log ratio, exact moments; the first is the sharper."""
    problem, policy, reference, path = _rollout(0.0)
    exact = plant().chain(GRID.times.numpy()).path_kl(policy, reference)
    found = ct.path_kl(problem, policy, reference, path)
    assert abs(found.mean - exact) < 4.5 * found.stderr
    log_ratio = ct.Estimate.of(ct.path_log_ratio(problem, policy, reference, path))
    assert abs(log_ratio.mean - exact) < 4.5 * log_ratio.stderr
    assert found.stderr < 0.5 * log_ratio.stderr


def test_path_kl_tends_to_that_of_the_diffusion() -> None:
    """4.5 standard errors plus O(Δt)."""
    (policy, reference), grid = _pair(), ct.TimeGrid.uniform(1.0, 100)
    problem = plant().problem()
    path = ct.simulate(problem, policy, grid, 4000, generator=seeded(3))
    found = ct.path_kl(problem, policy, reference, path)
    exact = plant().path_kl(policy, reference)
    assert abs(found.mean - exact) < 4.5 * found.stderr + 0.5 * exact / 100
    assert abs(2 * exact - found.mean) > 20 * found.stderr  # without the ½


def test_a_ratio_of_actions_is_exact_with_exploration() -> None:
    problem, policy, reference, path = _rollout(0.6)
    log_ratio = ct.action_log_ratio(policy, reference, path)
    assert_mean((-log_ratio).exp(), 1.0)
    by_hand = torch.zeros(20_000, dtype=torch.float64)
    for k in range(GRID.steps):
        t, x = path.times(k), path.states[k]
        laws = [torch.distributions.Normal(p.dist(t, x, None).mean, 0.6) for p in _pair(0.6)]
        by_hand += (laws[0].log_prob(path.actions[k]) - laws[1].log_prob(path.actions[k])).sum(1)
    assert_close(log_ratio, by_hand, 1e-9)
    # the KL of actions is not that of paths
    assert ct.Estimate.of(log_ratio).mean > 2 * ct.path_kl(problem, policy, reference, path).mean


def test_for_actions_that_absorb_the_noise_both_ratios_agree() -> None:
    linear, grid = GaussianDiffusion().control(0.5, 1.3), ct.TimeGrid.uniform(1.0, 6)
    solver, one = ct.EulerMaruyama(), torch.ones(1, 1, dtype=torch.float64)
    policy, reference = (
        ct.NoiseAbsorbingPolicy(linear.mean(K * one, k * one[0]), linear.sde, solver, grid)
        for K, k in ((0.25, 0.6), (0.0, 0.0))
    )
    path = ct.simulate(linear.problem, policy, grid, 500, generator=seeded(4))
    ratios = ct.path_log_ratio(linear.problem, policy, reference, path)
    assert_close(ct.action_log_ratio(policy, reference, path), ratios, 1e-9)


def test_the_golden_path_kl_of_a_diffusion() -> None:
    """β ∈ [0.1, 8], data N(0.7, 0.5), score shifted by 0.6 − 0.25x: 0.43619701 nats."""
    linear, one = GaussianDiffusion().control(0.5), torch.ones(1, 1, dtype=torch.float64)
    policy = ct.GaussianPolicy(linear.mean(0.25 * one, 0.6 * one[0]))
    reference = ct.GaussianPolicy(linear.mean(0 * one, 0 * one[0]))
    path = ct.simulate(
        linear.problem, policy, ct.TimeGrid.uniform(1.0, 200), 4000, generator=seeded(5)
    )
    found = ct.path_kl(linear.problem, policy, reference, path)
    assert abs(found.mean - 0.43619701) < 4.5 * found.stderr + 0.005
    assert abs(found.mean - 0.30863) > 0.1  # g² on the wrong clock
    assert_close(path.divergence().mean(), found.mean, 1e-9)
    other = ct.simulate(linear.problem, reference, path.grid, 4000, generator=seeded(6))
    wrong = ct.path_kl(linear.problem, policy, reference, other)
    assert abs(wrong.mean - 0.43619701) > 0.05  # under the wrong law


@pytest.mark.parametrize("sigma", [0.0, 0.6])
def test_what_has_no_ratio_is_named(sigma: float) -> None:
    _, policy, reference, path = _rollout(0.0, batch=3)
    with pytest.raises(ct.CtcontrolError, match="std 0 has no likelihood ratio; use path_log"):
        ct.action_log_ratio(policy, reference, path)
    zero = torch.zeros(2, 2, dtype=torch.float64)
    quiet = ct.ControlProblem(
        Isotropic(constant(-0.3), constant(0.8), constant(sigma)),
        QuadraticReward(zero, 0.0, zero, zero[0]),
        lambda n, g: (torch.ones(n, 2, dtype=torch.float64), None),
        1.0,
    )
    here, there = (ct.GaussianPolicy(lambda t, x, c, c_=c_: c_ * x) for c_ in (0.1, 0.2))
    path = ct.simulate(quiet, here, GRID, 3, generator=seeded())
    if sigma == 0:
        with pytest.raises(ct.CtcontrolError, match="zero or singular"):
            ct.path_log_ratio(quiet, here, there, path)
    else:
        rates = ct.kl_rates(quiet, here, there, path)
        gap = 0.8 * 0.1 * path.states[:-1]
        assert_close(rates, 0.5 * gap.square().sum(2) / 0.36, 1e-9)
