import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, EulerMaruyama, ItoAdvantage, TimeGrid, simulate
from ctcontrol.exact.lq import (
    Array,
    FixedLinearGaussianPolicy,
    LinearGaussianLaw,
    LinearGaussianPolicy,
    LQProblem,
    solve_riccati,
)
from tests.ctcontrol.exact.lq.systems import (
    random_law,
    random_system,
    standard_normal_nodes,
    systems,
    systems_with_policies,
)

Case = tuple[LQProblem, LinearGaussianLaw, LinearGaussianLaw]


def generator_rate(
    lq: LQProblem, law: LinearGaussianLaw, t: float, states: Array, actions: Array
) -> Array:
    """∂V/∂t + b·∇V + ½tr(σσᵀ∇²V) − ρV + r at rows (x, u), from the torch objects alone."""
    problem, value = lq.problem(), lq.value(law)
    x, u = torch.as_tensor(states), torch.as_tensor(actions)
    time = torch.full((len(x),), t, dtype=x.dtype)
    jet = value.jet(time, x, None, hessian=True)
    assert jet.hessian is not None
    drift = problem.sde.drift(time, x, u, None)
    trace = problem.sde.volatility(time, x, u).trace(jet.hessian)
    rate = jet.time + (drift * jet.gradient).sum(1) + trace / 2 - lq.discount * jet.value
    return (rate + problem.reward.running(time, x, u, None)).numpy()


def scale_of(lq: LQProblem, law: LinearGaussianLaw) -> float:
    v = lq.value(law).function.at(0.0)
    return max(1.0, *(float(np.abs(part).max()) for part in (v.P, v.p, v.c)))


@given(systems_with_policies(), st.floats(0, 1), st.integers(0, 1000))
def test_the_advantage_rate_is_the_generator_applied_to_the_value(
    case: Case, share: float, seed: int
) -> None:
    lq, law, _ = case
    rng = np.random.default_rng(seed)
    t, x, u = share * lq.horizon, rng.normal(size=(5, lq.states)), rng.normal(size=(5, lq.actions))
    gap = generator_rate(lq, law, t, x, u) - lq.advantage_rate(law)(t, x, u)
    assert np.abs(gap).max() < 1e-10 * scale_of(lq, law)


@given(systems_with_policies(), st.floats(0, 1), st.integers(0, 1000))
def test_the_policy_average_of_the_advantage_vanishes(case: Case, share: float, seed: int) -> None:
    lq, law, _ = case
    t = share * lq.horizon
    x = np.random.default_rng(seed).normal(size=lq.states)
    K, k, covariance = law.at(t)
    nodes, weights = standard_normal_nodes(lq.actions)
    u = k - K @ x + nodes @ np.linalg.cholesky(covariance).T
    q = generator_rate(lq, law, t, np.tile(x, (len(u), 1)), u)
    # E_π[q − λ log π] = 0: with a temperature the average is −λ·entropy.
    assert abs(weights @ q + lq.entropy_rate(covariance)) < 1e-10 * scale_of(lq, law)
    at = np.zeros((lq.states, lq.states))
    mean = lq.advantage_rate(law).expectation(t, law, x, at)
    assert abs(mean + lq.entropy_rate(covariance)) < 1e-12 * scale_of(lq, law)


@given(systems_with_policies(), st.floats(0.05, 0.95))
def test_the_time_derivative_is_that_of_the_value(case: Case, share: float) -> None:
    lq, law, _ = case
    value = lq.value(law)
    t = share * lq.horizon
    h = 1e-4 * lq.horizon
    if any(abs(t - jump) <= 2 * h for jump in law.gain.jumps):
        return  # the derivative jumps there
    x = torch.ones(4, lq.states, dtype=torch.float64)
    times = t + h * torch.tensor([-2.0, -1.0, 1.0, 2.0], dtype=torch.float64)
    v = value.at(times, x, None).numpy()
    slope = (v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h)
    assert abs(slope - float(value.jet(times[:1] * 0 + t, x[:1], None).time)) < 1e-6 * scale_of(
        lq, law
    )


@given(systems_with_policies())
def test_the_jet_agrees_with_autograd_and_with_the_terminal_reward(case: Case) -> None:
    lq, law, _ = case
    value = lq.value(law)
    x = torch.linspace(-1, 1, 4 * lq.states, dtype=torch.float64).reshape(4, -1).requires_grad_()
    t = torch.linspace(0, lq.horizon, 4, dtype=torch.float64)
    jet = value.jet(t, x, None, hessian=True)
    (gradient,) = torch.autograd.grad(value.at(t, x, None).sum(), x)
    assert torch.allclose(jet.gradient, gradient, rtol=1e-13, atol=1e-13)
    assert jet.hessian is not None
    second = torch.autograd.functional.hessian(
        lambda y: value.at(t[:1], y, None)[0], x[:1].detach()
    )
    assert isinstance(second, torch.Tensor)
    assert torch.allclose(jet.hessian[0], second[0, :, 0], rtol=1e-13, atol=1e-13)
    end = lq.problem().reward.terminal(x[3:], None)
    assert torch.allclose(value.at(t[3:], x[3:], None), end, atol=1e-13)
    assert value.jet(t, x, None).hessian is None


@given(systems_with_policies())
def test_the_value_is_the_reward_collected_forward(case: Case) -> None:
    """J from the moments and the integral of the reward: a computation without any value."""
    from ctcontrol.exact.lq._functionals import moments

    lq, law, _ = case

    def integrand(t0: float, t1: float):
        pieces = law.within(t0, t1)

        def at(t: float, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
            K, k, spread = pieces(t)
            xx = covariance + np.outer(mean, mean)
            uu = K @ covariance @ K.T + np.outer(k - K @ mean, k - K @ mean) + spread
            xu = np.outer(mean, k) - xx @ K.T
            cost = (lq.Q * xx).sum() + 2 * (lq.S * xu).sum() + (lq.R * uu).sum()
            return np.array([np.exp(-lq.discount * t) * (lq.entropy_rate(spread) - cost)])

        return at

    result = moments(lq, law, integrand, 1)
    m, C = result.mean(lq.horizon), result.covariance(lq.horizon)
    end = np.exp(-lq.discount * lq.horizon) * (np.trace(lq.G @ C) + m @ lq.G @ m)
    forward = result.integral(lq.horizon)[0] - end
    assert abs(forward - lq.expected_return(law)) < 1e-9 * scale_of(lq, law)


@given(systems())
def test_the_optimal_policy_has_the_value_of_the_riccati_equation(lq: LQProblem) -> None:
    P = solve_riccati(lq.A, lq.B, lq.Q, lq.R, lq.G, lq.horizon, lq.S, lq.discount)
    value = lq.value(lq.optimal_policy()).function
    for t in (0.0, 0.5 * lq.horizon):
        assert np.abs(value.at(t).P - P(t)).max() < 1e-9 * max(1.0, np.abs(P(t)).max())
    assert np.abs(value.at(0.0).p).max() == 0


def test_ornstein_uhlenbeck_in_closed_form() -> None:
    # No control cost is saved by acting: u has no effect and K = 0. E x² is known.
    k, sigma, T, rho, x0 = 0.9, 0.7, 1.3, 0.5, 1.2
    lq = LQProblem(
        A=[[-k]],
        B=[[0.0]],
        Q=[[1.0]],
        R=[[1.0]],
        G=[[2.0]],
        volatility=sigma,
        horizon=T,
        discount=rho,
        initial_mean=[x0],
    )
    fixed = sigma**2 / (2 * k)
    running = fixed * (1 - np.exp(-rho * T)) / rho
    running += (x0**2 - fixed) * (1 - np.exp(-(rho + 2 * k) * T)) / (rho + 2 * k)
    end = np.exp(-rho * T) * 2 * (fixed + (x0**2 - fixed) * np.exp(-2 * k * T))
    law = LinearGaussianLaw([[0.0]], covariance=0.0)
    assert abs(lq.expected_return(law) + running + end) < 1e-12
    noisy = LinearGaussianLaw([[0.0]], covariance=0.3)  # exploration costs tr(RΛ) a unit of time
    cost = 0.3 * (1 - np.exp(-rho * T)) / rho
    assert abs(lq.expected_return(law) - lq.expected_return(noisy) - cost) < 1e-12


@pytest.mark.parametrize("temperature", [0.0, 0.3])
def test_the_ito_estimator_recovers_the_exact_rate(
    temperature: float, generator: torch.Generator
) -> None:
    lq = random_system(2, 3, 2, temperature=temperature)
    policy = LinearGaussianPolicy(0.5 * np.ones((2, 3)), [0.3, -0.2], std=[0.4, 0.7])
    problem, grid = lq.problem(), TimeGrid.uniform(lq.horizon, 7)
    path = simulate(problem, policy, grid, 11, generator=generator)
    estimate = ItoAdvantage()(problem, EulerMaruyama(), lq.value(policy), path).numpy()
    rate, entropy = lq.advantage_rate(policy), lq.entropy_rate(policy.law().covariance(0.0))
    for k, t in enumerate(grid.times[:-1].tolist()):
        exact = rate(t, path.states[k].numpy(), path.actions[k].numpy()) + entropy
        assert np.abs(estimate[k] - exact).max() < 1e-10


def test_values_come_in_the_dtype_of_the_state() -> None:
    lq = random_system(1, 2, 1)
    value = lq.value(random_law(0, lq))
    t, x = torch.tensor([0.1, 0.1, 0.7]), torch.ones(3, 2)
    jet = value.jet(t, x, None, hessian=True)
    assert {v.dtype for v in vars(jet).values()} == {torch.float32}
    assert torch.allclose(value.at(t, x, None).double(), value.at(t.double(), x.double(), None))


def test_an_entropy_needs_a_spread() -> None:
    lq = random_system(1, 2, 1)
    with pytest.raises(CtcontrolError, match="covariance must be positive definite"):
        lq.expected_return(LinearGaussianLaw(np.zeros((1, 2))))


def test_a_policy_of_another_shape_is_refused() -> None:
    lq = random_system(1, 2, 1)
    with pytest.raises(CtcontrolError, match=r"gain has shape \(2, 3\).* 1 actions and 2 states"):
        lq.value(LinearGaussianLaw(np.zeros((2, 3))))


def test_the_fixed_policy_plays_the_optimum(generator: torch.Generator) -> None:
    lq = random_system(4, 2, 2, temperature=0.0, discount=0.0)
    law = lq.optimal_policy()
    policy = FixedLinearGaussianPolicy(law)
    t, x = torch.tensor([0.0, 0.3, 0.3]).double(), torch.randn(3, 2, generator=generator).double()
    dist = policy.dist(t, x, None)
    expected = np.stack([-law.gain(s) @ y for s, y in zip(t.tolist(), x.numpy(), strict=True)])
    assert np.abs(dist.mean.numpy() - expected).max() < 1e-14
    assert not dist.std.any()
    assert policy.law() is law
    slanted = LinearGaussianLaw(np.zeros((2, 2)), covariance=[[1, 0.5], [0.5, 1]])
    with pytest.raises(CtcontrolError, match="not diagonal"):
        FixedLinearGaussianPolicy(slanted).dist(t, x, None)
