"""Exact steps of linear SDEs: held actions, continuous feedback, rewards of whole steps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov

import ctcontrol as ct
from ctcontrol.exact import lq
from ctcontrol.exact.lq._bridge import LinearCost
from ctcontrol.solvers import _exact_linear
from ctcontrol.solvers._van_loan import transition
from tests.ctcontrol.exact.lq.systems import random_law, random_system
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.tables import plant
from tests.tables.dynamics import cart

F64 = torch.float64
EXACT = ct.ExactLinear()


def _times(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([t], dtype=F64) for t in values]


def _law(sde: ct.ConstantLinearSDE, length: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one step from x, action 0, as the solver takes it."""
    (t0, t1), start = _times(0.0, length), torch.tensor(x)[None]
    a = torch.zeros(1, sde.coefficients().B.shape[1], dtype=F64)
    k = EXACT.noise_like(sde, t0, start, a).shape[1]
    mean = EXACT.mean(sde, t0, t1, start, a, None)[0]
    ends = (t0.expand(k), t1.expand(k), start.expand(k, -1), a.expand(k, -1))
    root = EXACT.noise(sde, *ends, torch.eye(k, dtype=F64)).mT
    return mean.numpy(), (length * root @ root.mT).numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("stiff", [0.0, 30.0])
def test_one_step_has_the_law_of_the_closed_loop(seed: int, stiff: float) -> None:
    """Mean and covariance of X_1 in one step, against the moments by DOP853."""
    system = random_system(seed, 3, 2)
    system = random_system(seed, 3, 2, A=system.A - stiff * np.eye(3), initial_covariance=0.0)
    law = random_law(seed, system)
    sde = system.skeleton(law, [0.0, 1.0]).problem().sde
    assert isinstance(sde, ct.ConstantLinearSDE)
    mean, covariance = _law(sde, 1.0, system.initial_mean)
    moments = system.moments(law)
    np.testing.assert_allclose(mean, moments.mean(1.0), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(covariance, moments.covariance(1.0), rtol=1e-10, atol=1e-10)


def test_an_action_is_held() -> None:
    """As a state of its own that does not move."""
    system, a = plant(), np.array([0.7, -0.4])
    (t0, t1), x = _times(0.0, 0.8), normal(1, 3)
    frozen = np.block([[system.A, (system.B @ a)[:, None]], [np.zeros((1, 4))]])
    exact = transition(frozen, np.zeros((4, 1)), np.zeros((4, 4)), 0.8).decay
    expected = exact[:3, :3] @ x[0].numpy() + exact[:3, 3]
    found = EXACT.mean(system.problem().sde, t0, t1, x, torch.tensor(a)[None], None)
    assert_close(found[0], torch.tensor(expected), 1e-12)


@pytest.mark.parametrize("length", [1e-6, 0.3, 4.0, 300.0])
def test_steps_put_together_are_a_step(length: float) -> None:
    """Γ(2h) = Γ(h) + F Γ(h) Fᵀ and G(2h) = G(h) + F G(h), over nine decades."""
    system = random_system(3, 3, 2)
    A, diffusion = system.A - 1.5 * np.eye(3), system.diffusion
    half, whole = (transition(A, system.B, diffusion, h) for h in (length, 2 * length))
    F = half.decay
    for found, expected in (
        (whole.decay, F @ F),
        (whole.gain, half.gain + F @ half.gain),
        (whole.covariance, half.covariance + F @ half.covariance @ F.T),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-13 * length)


def test_a_huge_step_reaches_the_stationary_law() -> None:
    """Where e^{−Ah} overflows."""
    system = random_system(3, 3, 2)
    A = system.A - 3 * np.eye(3)
    stationary = solve_continuous_lyapunov(A, -system.diffusion)
    covariance = transition(A, system.B, system.diffusion, 5000.0).covariance
    np.testing.assert_allclose(covariance, stationary, rtol=1e-11)


def test_the_factors_are_made_once_for_every_length() -> None:
    """Rounding of the nodes does not count."""
    sde, x = plant().problem().sde, normal(2, 3)
    before = _exact_linear._step.cache_info().misses
    for begin, end in pairwise(ct.TimeGrid.uniform(1.0, 300).times):
        EXACT.mean(sde, begin.expand(2), end.expand(2), x, x[:, :2], None)
    assert _exact_linear._step.cache_info().misses - before == 1


def test_single_precision() -> None:
    system, grid = plant(), ct.TimeGrid.uniform(1.0, 7)
    policy = lq.LinearGaussianPolicy([[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]], dtype=torch.float32)
    path = ct.simulate(
        system.problem(torch.float32), policy, grid, 5, generator=seeded(), solver=EXACT
    )
    assert path.states.dtype == torch.float32


def test_noise_on_the_velocity_alone_has_a_kl_where_eulers_has_none() -> None:
    """½ gapᵀ Γ⁻¹ gap with Γ = σ²[[h³/3, h²/2], [h²/2, h]] for a free particle."""
    system = cart()
    particle = lq.LQProblem(
        A=[[0.0, 1.0], [0.0, 0.0]], B=system.B, Q=system.Q, R=system.R, G=system.G,
        volatility=system.volatility, horizon=1.0, initial_mean=[0.0, 0.0],
    )  # fmt: skip
    sde, h, (t0, t1) = particle.problem().sde, 0.4, _times(0.0, 0.4)
    x, a, reference = normal(1, 2), torch.ones(1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64)
    covariance = 0.36 * np.array([[h**3 / 3, h**2 / 2], [h**2 / 2, h]])
    gap = np.array([h**2 / 2, h])
    assert isinstance(sde, ct.UncontrolledVolatilitySDE)
    kl = EXACT.step_kl(sde, t0, t1, x, a, reference, None)
    assert float(kl) == pytest.approx(0.5 * gap @ np.linalg.solve(covariance, gap), rel=1e-10)
    with pytest.raises(ct.CtcontrolError, match="zero or singular"):
        ct.EulerMaruyama().step_kl(sde, t0, t1, x, a, reference, None)


def test_ratios_of_paths_with_correlated_steps() -> None:
    """Scalar σ, but e^{As} turns: the steps' noise is not elementwise."""
    system = plant(volatility=0.5)
    here, there = (lq.LinearGaussianPolicy(k * np.ones((2, 3)), [0.2, -0.1]) for k in (0.4, 0.1))
    problem, grid = system.problem(), ct.TimeGrid.uniform(1.0, 4)
    path = ct.simulate(problem, here, grid, 20_000, generator=seeded(1), solver=EXACT)
    ratio = ct.path_log_ratio(problem, here, there, path, solver=EXACT)
    assert_mean((-ratio).exp(), 1.0)
    kl = ct.path_kl(problem, here, there, path, solver=EXACT)
    found = ct.Estimate.of(ratio)
    assert abs(found.mean - kl.mean) < 4.5 * found.stderr


# --- continuous feedback, rewards of whole steps ---


@pytest.mark.parametrize("seed", range(3))
def test_the_value_of_a_skeleton_is_exact_on_any_grid(seed: int) -> None:
    """V_k = step cost + e^{−ρΔ}E V_{k+1} gives J to 1e-10, on three uneven steps."""
    system = random_system(seed, 3, 2)
    law = random_law(seed, system)
    cost, tail = system.skeleton(law, [0.0, 1.0]).closed, np.zeros((4, 4))
    tail[:3, :3] = system.G
    for h in (0.05, 0.7, 0.25):
        step = cost.transition(h)
        move = np.vstack([np.hstack([step.decay, step.gain]), [0.0, 0.0, 0.0, 1.0]])
        later = move.T @ tail @ move
        later[3, 3] += (tail[:3, :3] * step.covariance).sum()
        tail = cost.step(h)[1] + np.exp(-system.discount * h) * later
    start = np.append(system.initial_mean, 1.0)
    J = -(start @ tail @ start + (tail[:3, :3] * system.initial_covariance).sum())
    assert pytest.approx(system.expected_return(law), rel=1e-10) == J


def test_the_bridge_of_brownian_motion() -> None:
    """E[∫X² ds | x, x′] = h(x² + xx′ + x′²)/3 + σ²h²/6."""
    zero, h = np.zeros((1, 1)), 2.5
    cost = LinearCost(zero, np.zeros(1), np.full((1, 1), 0.49), np.diag([1.0, 0.0]), 0.0)
    form, start = cost.step(h)
    third, sixth = h / 3, h / 6
    expected = [[third, sixth, 0], [sixth, third, 0], [0, 0, 0.49 * h**2 / 6]]
    np.testing.assert_allclose(form, expected, atol=1e-13)
    np.testing.assert_allclose(start, np.diag([h, 0.49 * h**2 / 2]), atol=1e-13)


@pytest.mark.parametrize("steps", [1, 4])
def test_returns_are_unbiased_in_huge_steps(steps: int) -> None:
    """Both kinds of conditional return; Euler–Maruyama is far off."""
    system, grid = plant(), ct.TimeGrid.uniform(1.0, steps)
    law = lq.LinearGaussianLaw([[0.9, 0.2, 0.0], [0.1, 0.8, 0.3]], [0.2, -0.1], 0.09)
    J, skeleton = system.expected_return(law), system.skeleton(law, grid.times)
    path = ct.simulate(
        skeleton.problem(), skeleton.policy, grid, 100_000, generator=seeded(1), solver=EXACT
    )
    for returns in (path.returns(), skeleton.returns(path)):
        found = ct.Estimate.of(returns)
        assert abs(found.mean - J) < 4.5 * found.stderr
    policy = lq.FixedLinearGaussianPolicy(law)
    euler = ct.Estimate.of(
        ct.simulate(system.problem(), policy, grid, 100_000, generator=seeded(1)).returns()
    )
    assert abs(euler.mean - J) > 15 * euler.stderr


def test_the_conditional_return_is_the_mean_of_fine_paths() -> None:
    """E[fine return | coarse nodes] by regression: the residual is uncorrelated with the nodes."""
    system, fine, coarse = plant(), ct.TimeGrid.uniform(1.0, 64), ct.TimeGrid.uniform(1.0, 2)
    law = lq.LinearGaussianLaw([[0.9, 0.2, 0.0], [0.1, 0.8, 0.3]], [0.2, -0.1])
    thin = system.skeleton(law, fine.times)
    path = ct.simulate(thin.problem(), thin.policy, fine, 20_000, generator=seeded(2), solver=EXACT)
    nodes = path.states[::32]
    few = replace(path, grid=coarse, states=nodes)
    gap = thin.returns(path) - system.skeleton(law, coarse.times).returns(few)
    assert_mean(gap, 0.0)
    for k in range(3):
        assert_mean(gap[:, None] * nodes[k], 0.0)
        assert_mean(gap[:, None] * nodes[k] ** 2, 0.0)


def test_what_has_no_exact_step_is_refused() -> None:
    system, x, (t0, t1) = plant(), normal(1, 3), _times(0.0, 0.1)
    loop = ct.closed_loop(system.problem().sde, ct.GaussianPolicy(lambda t, x, c: x[:, :2].sin()))
    with pytest.raises(ct.CtcontrolError, match=r"ConstantLinearSDE, got Additive.*use Euler"):
        EXACT.mean(loop, t0, t1, x, x, None)
    silent = plant(volatility=0.0).problem().sde
    assert isinstance(silent, ct.UncontrolledVolatilitySDE)
    with pytest.raises(ct.CtcontrolError, match="does not reach all states"):
        EXACT.step_kl(silent, t0, t1, x, x[:, :2], x[:, 1:], None)
    with pytest.raises(ct.CtcontrolError, match="policy varies in time"):
        system.skeleton(system.optimal_policy(), [0.0, 1.0])
    with pytest.raises(ct.CtcontrolError, match="times run over"):
        system.skeleton(lq.LinearGaussianLaw(np.zeros((2, 3))), [0.0, 0.5])
    skeleton = system.skeleton(lq.LinearGaussianLaw(np.zeros((2, 3))), [0.0, 0.5, 1.0])
    path = ct.simulate(
        skeleton.problem(), skeleton.policy, ct.TimeGrid.uniform(1.0, 3), 2, generator=seeded(),
        solver=EXACT,
    )  # fmt: skip
    with pytest.raises(ct.CtcontrolError, match="has 3 steps and the skeleton 2"):
        skeleton.returns(path)


def test_correlated_noise_cannot_be_absorbed() -> None:
    system = lq.LQProblem(
        A=[[-0.2, 0.9], [0.4, 0.1]], B=np.eye(2), Q=np.eye(2), R=np.eye(2), G=np.eye(2),
        volatility=0.4, horizon=1.0, initial_mean=[0.0, 0.0],
    )  # fmt: skip
    sde = system.problem().sde
    assert isinstance(sde, ct.ElementwiseActionSDE)
    with pytest.raises(ct.CtcontrolError, match="no independent actions have"):
        EXACT.absorbing_std(sde, *_times(0.0, 0.5))
