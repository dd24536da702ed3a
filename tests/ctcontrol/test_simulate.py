"""The loop over time: its law, its bookkeeping, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    Action,
    BrownianPath,
    Context,
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    NoiseAbsorbingPolicy,
    NumericalError,
    Reward,
    Scalar,
    ScalarVolatility,
    ShapeError,
    State,
    TerminalReward,
    Time,
    TimeGrid,
    UncontrolledVolatilitySDE,
    Volatility,
    WhiteNoise,
    ZeroNoise,
    simulate,
)
from ctcontrol._loop import draw_seed
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.problems import Isotropic, LinearProblem, constant, regulator
from tests.tables import plant

GRID = TimeGrid.from_times([0.0, 0.1, 0.4, 0.8, 1.2])
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def _policy(linear: LinearProblem, std: float = 0.4) -> GaussianPolicy:
    return GaussianPolicy(linear.mean(K, k), std)


@pytest.mark.parametrize("regularizer", ["kl_weight", "temperature"])
def test_mean_return_is_that_of_the_chain(regularizer: str) -> None:
    """Without any discretisation error: discount, running reward, penalty and coupled states."""
    linear = regulator(**{regularizer: 0.5})
    path = simulate(linear.problem, _policy(linear), GRID, 40_000, generator=seeded(1))
    assert_mean(path.returns(), float(linear.expected_return(GRID, K, k, STD)))
    for j, value in enumerate(linear.values(GRID, K, k, STD)[:-1]):
        assert_mean(path.return_to_go()[j] - value(path.states[j]), 0.0)


def test_mean_return_with_absorbed_noise_is_that_of_the_chain() -> None:
    linear = regulator(kl_weight=0.5)
    policy = NoiseAbsorbingPolicy(linear.mean(K, k), linear.sde, EulerMaruyama(), GRID)
    path = simulate(linear.problem, policy, GRID, 40_000, generator=seeded(2))
    exact = linear.expected_return(GRID, K, k, policy.table, absorbs=True)
    assert_mean(path.returns(), float(exact))


def test_absorbing_the_noise_leaves_the_law_of_the_states() -> None:
    """Neither twice the noise nor none: moments of the states agree with the noisy chain."""
    linear = regulator()
    absorbing = NoiseAbsorbingPolicy(linear.mean(K, k), linear.sde, EulerMaruyama(), GRID)
    paths = [
        simulate(linear.problem, policy, GRID, 40_000, generator=seeded(seed))
        for policy, seed in ((absorbing, 3), (_policy(linear, 0.0), 4))
    ]
    first, second = (p.final for p in paths)
    assert_mean(first, second.mean(0), bias=float(5 * second.std() / 200))
    assert abs(float(first.var(0).sum() / second.var(0).sum()) - 1) < 0.03


def test_dense_noise_and_few_actions_follow_the_exact_moments() -> None:
    lq, grid = plant(), TimeGrid.uniform(1.0, 10)
    policy = LinearGaussianPolicy([[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]], [0.2, -0.1], std=0.3)
    path = simulate(lq.problem(), policy, grid, 20_000, generator=seeded(5))
    chain = lq.chain(grid.times.numpy())
    means, covariances = map(torch.as_tensor, chain.moments(policy.law()))
    for j in (1, 5, 10):
        assert_mean(path.states[j], means[j])
        gap = path.states[j] - means[j]
        assert_mean(gap[:, :, None] * gap[:, None, :], covariances[j])
    assert_mean(path.returns(), chain.expected_return(policy.law()))


def test_innovations_are_a_martingale_difference() -> None:
    """Mean zero given everything before, with the covariance of the whole step."""
    linear = regulator()
    path = simulate(linear.problem, _policy(linear), GRID, 20_000, generator=seeded(6))
    for j, dt in enumerate(GRID.lengths.tolist()):
        jump, x = path.innovations[j], path.states[j]
        assert_mean(jump, 0.0)
        assert_mean(jump[:, :, None] * x[:, None, :], 0.0)
        assert_mean(jump[:, :, None] * x.square()[:, None, :], 0.0)
        if j:
            assert_mean(jump[:, :, None] * path.innovations[j - 1][:, None, :], 0.0)
        # The held action is a part of what was not foreseen.
        variance = dt * 0.6**2 + (dt * 0.8 * 0.4) ** 2
        assert_mean(jump[:, :, None] * jump[:, None, :], variance * torch.eye(2))


def test_states_are_rebuilt_from_what_was_recorded() -> None:
    linear = regulator()
    path = simulate(linear.problem, _policy(linear), GRID, 5, generator=seeded(7))
    for j, dt in enumerate(GRID.lengths.tolist()):
        t, x = path.times(j), path.states[j]
        foreseen = x + dt * linear.sde.drift(t, x, path.means[j], None)
        assert_close(path.states[j + 1], foreseen + path.innovations[j])
        reward = linear.reward.running(t, x, path.actions[j], None)
        assert_close(path.rewards[j], reward)
    assert_close(path.terminal, linear.reward.terminal(path.final, None))
    assert path.discount == 0.4


class Saturated(UncontrolledVolatilitySDE):
    """dX = (−X + tanh a) dt + 0.5 dW: the mean of the drift is not the drift at the mean."""

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return a.tanh() - x

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return ScalarVolatility(torch.full_like(t, 0.5))


def test_innovations_are_centered_where_the_drift_is_not_affine() -> None:
    """There E[X' | x] has no closed form: what was not foreseen is the noise given the action."""
    problem = replace(regulator().problem, sde=Saturated())
    policy = GaussianPolicy(lambda t, x, c: 1 - x, 2.0)
    path = simulate(problem, policy, GRID, 20_000, generator=seeded(8))
    for j, dt in enumerate(GRID.lengths.tolist()):
        foreseen = path.states[j] + dt * (path.actions[j].tanh() - path.states[j])
        assert_close(path.states[j + 1], foreseen + path.innovations[j])
        assert_mean(path.innovations[j], 0.0)
        assert_mean(path.innovations[j].square(), 0.25 * dt)


def test_the_generator_is_the_only_source_of_randomness() -> None:
    linear = regulator()
    state = torch.get_rng_state()
    paths = [
        simulate(linear.problem, _policy(linear), GRID, 4, generator=seeded(s)) for s in (1, 1, 2)
    ]
    assert torch.equal(paths[0].states, paths[1].states)
    assert torch.equal(paths[0].actions, paths[1].actions)
    assert not torch.equal(paths[0].states, paths[2].states)
    assert torch.equal(state, torch.get_rng_state())


def test_white_noise_is_the_default_and_zero_noise_is_none() -> None:
    linear, policy = regulator(), _policy(regulator(), 0.0)
    default = simulate(linear.problem, policy, GRID, 4, generator=seeded(9))
    generator = seeded(9)
    linear.initial(4, generator)
    white = WhiteNoise(draw_seed(generator))
    same = simulate(linear.problem, policy, GRID, 4, generator=seeded(9), noise=white)
    assert torch.equal(default.states, same.states)
    sure = simulate(linear.problem, policy, GRID, 4, generator=seeded(9), noise=ZeroNoise())
    assert not bool(sure.innovations.any())
    assert torch.equal(sure.actions, sure.means)


def test_a_deterministic_policy_draws_nothing() -> None:
    """So that exploration can be switched off without changing the noise that follows."""
    linear = regulator()
    sure, generator = _policy(linear, 0.0), seeded(10)
    noise = BrownianPath(1.2, (4, 2), seed=1)
    path = simulate(linear.problem, sure, GRID, 4, generator=generator, noise=noise)
    assert torch.equal(path.actions, path.means)
    fresh = seeded(10)
    linear.initial(4, fresh)
    assert torch.equal(generator.get_state(), fresh.get_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_initial_states_decide_the_dtype(dtype: torch.dtype) -> None:
    problem = ControlProblem(
        Isotropic(constant(-1.0), constant(1.0), constant(0.5)),
        TerminalReward(lambda x, c: x.sum(1)),
        lambda n, g: (torch.randn(n, 2, generator=g, dtype=dtype), None),
        horizon=1.0,
    )
    policy = GaussianPolicy(lambda t, x, c: -x, 0.1)
    path = simulate(problem, policy, TimeGrid.uniform(1.0, 3), 4, generator=seeded())
    for name in ("states", "actions", "means", "stds", "innovations", "rewards", "terminal"):
        assert getattr(path, name).dtype == dtype, name
    rows = path.transitions()
    assert rows.t0.dtype == rows.weight.dtype == dtype


def test_context_reaches_everything_and_rides_along() -> None:
    seen: set[str] = set()

    class Labelled(Reward):
        def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
            seen.add("running")
            return x.sum(1) * context

        def terminal(self, x: State, context: Context) -> Scalar:
            seen.add("terminal")
            return x.sum(1) * context

    def mean(t: Tensor, x: Tensor, context: Tensor) -> Tensor:
        seen.add("mean")
        return -x * context[:, None]

    labels = torch.tensor([1.0, 2.0, 3.0]).double()
    problem = ControlProblem(
        regulator().sde, Labelled(), lambda n, g: (torch.ones(n, 2).double(), labels), horizon=1.2
    )
    path = simulate(problem, GaussianPolicy(mean, 0.1), GRID, 3, generator=seeded())
    assert seen == {"running", "terminal", "mean"}
    assert torch.equal(path.context, labels)
    assert torch.equal(path.transitions().context, labels.repeat(GRID.steps))


def test_no_graph_is_kept() -> None:
    linear = regulator(kl_weight=0.5)
    path = simulate(linear.problem, _policy(linear), GRID, 3, generator=seeded())
    for name in ("states", "actions", "means", "penalties", "rewards", "terminal"):
        assert not getattr(path, name).requires_grad, name


class TestDoors:
    @pytest.mark.parametrize("times", [[0.0, 1.0], [0.1, 1.2], [0.0, 1.3]])
    def test_the_grid_must_span_the_horizon(self, times: list[float]) -> None:
        linear = regulator()
        says = r"the grid runs over \[.*\] but the problem over \[0, 1.2\]; use TimeGrid.uniform"
        with pytest.raises(CtcontrolError, match=says):
            simulate(
                linear.problem, _policy(linear), TimeGrid.from_times(times), 2, generator=seeded()
            )

    def test_batch_is_a_count(self) -> None:
        linear = regulator()
        with pytest.raises(CtcontrolError, match="batch must be a whole number >= 1, got 0"):
            simulate(linear.problem, _policy(linear), GRID, 0, generator=seeded())

    def test_rewards_are_one_number_a_row(self) -> None:
        linear = regulator()
        problem = replace(linear.problem, reward=TerminalReward(lambda x, c: x))
        with pytest.raises(ShapeError, match=r"reward.terminal must return one number a row"):
            simulate(problem, _policy(linear), GRID, 3, generator=seeded())

    def test_a_diverging_drift_is_caught_with_its_states(self) -> None:
        linear = regulator()
        wild = Isotropic(constant(1e200), constant(1.0), constant(1.0))
        with pytest.raises(NumericalError, match=r"the rollout: states has \d+ of.*smaller") as e:
            simulate(
                replace(linear.problem, sde=wild), _policy(linear), GRID, 3, generator=seeded()
            )
        assert e.value.batch["states"].shape == (5, 3, 2)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_a_bad_terminal_reward_is_caught_with_its_states(self, bad: float) -> None:
        linear = regulator()
        reward = TerminalReward(lambda x, c: torch.where(torch.arange(len(x)) == 1, bad, 0.0))
        problem = replace(linear.problem, reward=reward)
        with pytest.raises(NumericalError, match=r"terminal rewards has 1 of 3.*check the") as e:
            simulate(problem, _policy(linear), GRID, 3, generator=seeded())
        assert e.value.batch["states"].shape == (3, 2)

    def test_an_infinite_penalty_is_caught(self) -> None:
        linear = regulator(temperature=0.5)
        with pytest.raises(NumericalError, match="penalties has 12 of 12 entries"):
            simulate(linear.problem, _policy(linear, 0.0), GRID, 3, generator=seeded())
