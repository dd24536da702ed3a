import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctcontrol import (
    CtcontrolError,
    Estimate,
    EulerMaruyama,
    NoiseAbsorbingPolicy,
    PathKL,
    TemporalDifferenceAdvantage,
    TimeGrid,
    simulate,
)
from ctcontrol.exact.lq import (
    EulerMaruyamaChain,
    LinearGaussianLaw,
    LinearGaussianPolicy,
    LQProblem,
    Piecewise,
)
from tests.ctcontrol.exact.lq.systems import random_law, random_system, systems_with_policies
from tests.ctcontrol.exact.lq.test_functionals import moved, slope

Case = tuple[LQProblem, LinearGaussianLaw, LinearGaussianLaw]


def uneven(lq: LQProblem, steps: int = 8) -> EulerMaruyamaChain:
    """A chain whose steps grow; 0.25 and 0.75 of the horizon are nodes."""
    share = np.concatenate([np.linspace(0, 0.25, 3)[:-1], np.linspace(0.25, 1, steps - 1)])
    return lq.chain(share * lq.horizon)


@pytest.mark.parametrize("piecewise", [False, True])
def test_the_chain_converges_to_the_diffusion_with_slope_one(piecewise: bool) -> None:
    lq = random_system(11, 3, 2)
    law, other = (random_law(seed, lq, piecewise=piecewise) for seed in (1, 2))
    exact = lq.expected_return(law), lq.path_kl(law, other), *lq.gradient(law).offset.ravel()
    errors = []
    for steps in (80, 160, 320, 640):
        chain = lq.chain(np.linspace(0, lq.horizon, steps + 1))
        found = (
            chain.expected_return(law),
            chain.path_kl(law, other),
            *chain.gradient(law).offset.ravel(),
        )
        errors.append(np.array(found) - np.array(exact))
    rates = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.abs(rates[-1] - 1).max() < 0.06
    # Halving the step and extrapolating removes the first order.
    assert np.all(np.abs(2 * errors[-1] - errors[-2]) < 0.05 * np.abs(errors[-1]))


@given(systems_with_policies())
def test_the_value_recursion_collects_the_rewards_of_the_moments(case: Case) -> None:
    lq, law, _ = case
    chain = uneven(lq)
    means, covariances = chain.moments(law)
    total = 0.0
    for j, t in enumerate(chain.times[:-1]):
        (K, k, spread), m, C = law.at(t), means[j], covariances[j]
        xx, u = C + np.outer(m, m), k - K @ m
        uu = K @ C @ K.T + np.outer(u, u) + spread
        cost = (lq.Q * xx).sum() + (lq.R * uu).sum() + 2 * (lq.S * (np.outer(m, u) - C @ K.T)).sum()
        rate = lq.entropy_rate(spread) - cost
        total += np.exp(-lq.discount * t) * (chain.times[j + 1] - t) * rate
    end = (lq.G * covariances[-1]).sum() + means[-1] @ lq.G @ means[-1]
    total -= np.exp(-lq.discount * lq.horizon) * end
    assert abs(total - chain.expected_return(law)) < 1e-10 * max(1.0, abs(total))


@settings(max_examples=15)
@given(systems_with_policies(), st.integers(0, 100))
def test_the_gradient_of_the_chain_is_that_of_its_return(case: Case, seed: int) -> None:
    lq, law, _ = case
    chain = uneven(lq)
    gradient = chain.gradient(law)
    for name in ("gain", "offset", "covariance"):
        exact = getattr(gradient, name)
        direction = np.random.default_rng(seed).normal(size=exact.shape)
        if name == "covariance":
            direction = direction + np.swapaxes(direction, -1, -2)
            direction *= 0.02 / np.abs(direction).max()
        found = slope(lambda by, n=name, v=direction: chain.expected_return(moved(law, n, v, by)))
        reach = np.abs(exact).sum() * np.abs(direction).max()
        assert abs(found - (exact * direction).sum()) < 1e-7 * max(1.0, reach), name


@given(systems_with_policies())
def test_no_policy_beats_the_optimum_of_the_chain(case: Case) -> None:
    lq, law, _ = case
    chain = uneven(lq)
    best = chain.optimal_law()
    top = chain.expected_return(best)
    assert top >= chain.expected_return(law)
    assert np.abs(chain.gradient(best).gain).max() < 1e-9 * max(1.0, abs(top))
    if lq.temperature > 0:
        assert np.abs(chain.gradient(best).covariance).max() < 1e-9 * max(1.0, abs(top))
    else:
        assert top >= chain.expected_return(lq.optimal_policy())


def test_zero_order_hold_costs_in_proportion_to_the_step() -> None:
    lq = random_system(12, 2, 1, temperature=0.0)
    best = lq.optimal_return()
    gaps = []
    for steps in (50, 100, 200, 400):
        chain = lq.chain(np.linspace(0, lq.horizon, steps + 1))
        gaps.append(chain.expected_return(chain.optimal_law()) - best)
    rates = np.log2(np.array(gaps[:-1]) / np.array(gaps[1:]))
    assert abs(rates[-1] - 1) < 0.05


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_simulation_agrees_with_the_chain(scale: float, generator: torch.Generator) -> None:
    """Return, terminal moments and path KL: no allowance for the step, five standard errors."""
    lq = random_system(13, 2, 2, volatility=[[0.5, 0.2], [0.0, 0.8]], temperature=0.0)
    policy = LinearGaussianPolicy(
        [[[0.4, -0.3], [0.2, 0.5]], [[0.9, 0.1], [-0.4, 0.2]]],
        [[0.3, 0.0], [-0.2, 0.1]],
        std=[scale, 0.4 * scale],
        times=[0.0, 0.5, 1.0],
    )
    reference = LinearGaussianPolicy(np.zeros((2, 2)))
    grid = TimeGrid.uniform(lq.horizon, 10)
    chain = lq.chain(grid.times.numpy())
    problem = lq.problem()
    path = simulate(problem, policy, grid, 40_000, generator=generator)
    kl = PathKL(reference, 1.0)
    rows = path.transitions()
    nats = kl.amount(
        EulerMaruyama(),
        problem.sde,
        rows.t0,
        rows.t1,
        rows.x,
        rows.law,
        kl.anchor(rows.t0, rows.x, None),
        None,
    ).reshape(path.steps, path.batch)
    means, covariances = chain.moments(policy.law())
    centered = path.final - torch.as_tensor(means[-1])
    claims = [
        (Estimate.of(path.returns()), chain.expected_return(policy.law())),
        (Estimate.of(nats.sum(0)), chain.path_kl(policy.law(), reference.law())),
        *((Estimate.of(path.final[:, i]), means[-1][i]) for i in range(2)),
        (Estimate.of(centered[:, 0] * centered[:, 1]), covariances[-1][0, 1]),
        (Estimate.of(centered[:, 0] ** 2), covariances[-1][0, 0]),
    ]
    for estimate, exact in claims:
        assert abs(estimate.mean - exact) < 5 * estimate.stderr, (estimate, exact)
    # The diffusion itself is many standard errors away: the chain's truth is what was needed.
    estimate = claims[0][0]
    assert abs(estimate.mean - lq.expected_return(policy)) > 5 * estimate.stderr


def test_the_entropy_bonus_is_collected_by_simulation(generator: torch.Generator) -> None:
    lq = random_system(14, 2, 2, temperature=0.7, discount=0.8)
    policy = LinearGaussianPolicy(np.eye(2), std=[0.3, 0.9])
    grid = TimeGrid.uniform(lq.horizon, 6)
    returns = simulate(lq.problem(), policy, grid, 20_000, generator=generator).returns()
    estimate = Estimate.of(returns)
    exact = lq.chain(grid.times.numpy()).expected_return(policy.law())
    assert abs(estimate.mean - exact) < 5 * estimate.stderr


def test_an_action_that_carries_the_noise_runs_the_same_chain(generator: torch.Generator) -> None:
    lq = random_system(15, 2, 2, B=0.7 * np.eye(2), volatility=0.6, temperature=0.0)
    grid, problem = TimeGrid.uniform(lq.horizon, 8), lq.problem()
    plain = LinearGaussianPolicy([[0.4, -0.3], [0.2, 0.5]])
    absorbing = NoiseAbsorbingPolicy(
        lambda t, x, c: plain.dist(t, x, c).mean,
        problem.sde,  # type: ignore[arg-type]  # elementwise because B is a multiple of I
        EulerMaruyama(),
        grid,
    )
    path = simulate(problem, absorbing, grid, 20_000, generator=generator)
    means, covariances = lq.chain(grid.times.numpy()).moments(plain.law())
    centered = path.final - torch.as_tensor(means[-1])
    for estimate, exact in (
        (Estimate.of(path.final[:, 0]), means[-1][0]),
        (Estimate.of(centered[:, 0] * centered[:, 1]), covariances[-1][0, 1]),
        (Estimate.of(centered[:, 1] ** 2), covariances[-1][1, 1]),
    ):
        assert abs(estimate.mean - exact) < 5 * estimate.stderr


@pytest.mark.parametrize("discount", [0.0, 1.5])
def test_policy_gradients_are_estimated_without_bias(
    discount: float, generator: torch.Generator
) -> None:
    """Likelihood ratios times temporal differences of the chain's own value, on six steps."""
    lq = random_system(17, 2, 2, temperature=0.0, discount=discount)
    policy = LinearGaussianPolicy([[0.4, -0.3], [0.2, 0.5]], [0.3, -0.1], std=[0.5, 0.8])
    grid, problem = TimeGrid.uniform(lq.horizon, 6), lq.problem()
    chain = lq.chain(grid.times.numpy())
    path = simulate(problem, policy, grid, 40_000, generator=generator)
    rate = TemporalDifferenceAdvantage()(problem, EulerMaruyama(), chain.value(policy), path)
    # The mean over actions is known too: it vanishes at every step.
    for mean in map(Estimate.of, rate):
        assert abs(mean.mean) < 5 * mean.stderr
    weight = (-discount * grid.times[:-1]).exp()[:, None] * path.lengths * rate
    score = weight[..., None] * (path.actions - path.means) / path.stds**2
    gain = -(score[..., None] * path.states[:-1, :, None, :]).sum(0)
    exact = chain.gradient(policy)
    for i in range(2):
        offset = Estimate.of(score.sum(0)[:, i])
        assert abs(offset.mean - exact.offset[i]) < 5 * offset.stderr
        for j in range(2):
            entry = Estimate.of(gain[:, i, j])
            assert abs(entry.mean - exact.gain[i, j]) < 5 * entry.stderr


def test_the_value_of_the_chain_lives_on_its_nodes() -> None:
    lq = random_system(18, 2, 1)
    chain, law = uneven(lq), random_law(0, lq)
    value = chain.value(law)
    t = torch.as_tensor(chain.times.copy())
    x = torch.linspace(-1, 1, 2 * len(t), dtype=torch.float64).reshape(-1, 2)
    functions = chain.value_functions(law)
    expected = [float(f(y)) for f, y in zip(functions, x.numpy(), strict=True)]
    assert np.allclose(value.at(t, x, None).numpy(), expected, rtol=1e-13)
    assert torch.allclose(value.at(t.float(), x.float(), None).double(), value.at(t, x, None))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value.at(t, leaf, None).sum(), leaf)
    jet = value.jet(t, x, None, hessian=True)
    assert torch.allclose(jet.gradient, gradient)
    assert jet.hessian is not None
    assert np.allclose(jet.hessian[1].numpy(), -2 * functions[1].P)
    assert jet.time.isnan().all()
    with pytest.raises(CtcontrolError, match=r"t = 0\.111111 is not a node"):
        value.at(t[:1] + 1 / 9, x[:1], None)


@pytest.mark.parametrize("times", [[0.0, 0.5], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [0.0]])
def test_times_that_do_not_span_the_horizon_are_refused(times: list[float]) -> None:
    with pytest.raises(CtcontrolError, match="times"):
        random_system(1, 1, 1).chain(times)


def test_pieces_of_a_policy_collect_the_gradients_of_their_steps() -> None:
    lq = random_system(16, 1, 1)
    chain = uneven(lq)
    constant = random_law(3, lq)
    pieces = LinearGaussianLaw(
        Piecewise(chain.times, np.tile(constant.gain(0.0), (8, 1, 1))),
        constant.offset,
        constant.covariance,
    )
    each, total = chain.gradient(pieces).gain, chain.gradient(constant).gain
    assert each.shape == (8, 1, 1)
    assert np.abs(each.sum(0) - total).max() < 1e-13
