"""Rollouts that keep sums: the same paths as those that keep everything, in tiles, and stopped."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ctcontrol import (
    ControlledSDE,
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    Heun,
    Policy,
    Reward,
    Rollout,
    ScalarVolatility,
    TerminalReward,
    TimeGrid,
    UncontrolledVolatilitySDE,
    Volatility,
    WhiteNoise,
    simulate,
)
from ctcontrol._loop import Run
from ctcontrol._typing import Action, Context, Noise, Scalar, State, Time
from ctcontrol.exact import lq
from ctcontrol.exact.lq._dynamics import ConstantVolatility
from ctcontrol.noise import Tile
from tests.helpers import assert_close, assert_mean, seeded
from tests.tables import plant

GRID = TimeGrid.from_times([0.0, 0.1, 0.25, 0.3, 0.6, 0.8, 1.0])


def _policy(std: float = 0.0, offset: tuple[float, ...] = (0.1, -0.2)) -> Policy:
    return lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]], offset, std=std)


def _sums(policy: Policy, batch: int = 64) -> Rollout:
    problem = plant().problem()
    return simulate(problem, policy, GRID, batch, generator=seeded(3), store="none")


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_sums_are_those_of_the_whole_trajectory(std: float) -> None:
    """Also where linear dynamics and linear feedback were made one affine map (std 0)."""
    problem, policy = plant().problem(), _policy(std)
    whole = simulate(problem, policy, GRID, 64, generator=seeded(3))
    sums = _sums(policy)
    assert_close(sums.final, whole.final, 1e-13)
    assert_close(sums.returns, whole.returns(), 1e-12)
    assert_close(sums.times, torch.ones(64).double())


def test_the_affine_map_is_taken_where_it_can_be() -> None:
    """Otherwise the test above would compare the general way with itself."""
    problem, solver = plant().problem(), EulerMaruyama()
    assert Run(problem, _policy(), GRID, solver).affine is not None
    assert Run(problem, _policy(0.3), GRID, solver).affine is None
    network = GaussianPolicy(lambda t, x, c: x[:, :2].tanh(), 0.0)
    assert Run(problem, network, GRID, solver).affine is None


def test_checkpoints_are_the_states_of_the_trajectory() -> None:
    problem, policy = plant().problem(), _policy(0.3)
    whole = simulate(problem, policy, GRID, 8, generator=seeded(3))
    kept = simulate(problem, policy, GRID, 8, generator=seeded(3), store="checkpoints")
    assert kept.nodes == (0, 3)
    assert torch.equal(kept.states, whole.states[list(kept.nodes)])


def test_threads_share_the_tiles_and_change_nothing() -> None:
    batch = 20_000
    one = _sums(_policy(0.2), batch)
    torch.set_num_threads(2)
    try:
        two = _sums(_policy(0.2), batch)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one.returns, two.returns)
    assert torch.equal(one.final, two.final)


def test_white_noise_is_the_same_for_the_first_tiles_of_a_larger_batch() -> None:
    problem, policy = replace(plant(), initial_covariance=0.0).problem(), _policy()
    small, large = (
        simulate(problem, policy, GRID, n, generator=seeded(s), noise=WhiteNoise(5), store="none")
        for n, s in ((3 * 8192, 1), (4 * 8192, 2))
    )
    assert torch.equal(small.returns, large.returns[: 3 * 8192])


def test_tiles_estimate_the_exact_value() -> None:
    system, policy = plant(), lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]])
    rollout = simulate(system.problem(), policy, GRID, 40_000, generator=seeded(3), store="none")
    assert_mean(
        rollout.returns, lq.EulerMaruyamaChain(system, GRID.times.numpy()).expected_return(policy)
    )
    whole = simulate(system.problem(), policy, GRID, 40_000, generator=seeded(3))
    assert_close(whole.returns(), rollout.returns, 1e-12)


def test_the_martingale_of_the_exact_value_leaves_no_variance_in_the_limit() -> None:
    """Discounted, and with the policy's own innovations: a wrong weight leaves a share of it."""
    system, policy = plant(), lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]])
    grid = TimeGrid.uniform(1.0, 200)
    value = system.value(policy)
    start = replace(system, initial_covariance=0.0).problem()
    rollout = simulate(
        start, policy, grid, 500, generator=seeded(3), store="none", martingale=value
    )
    assert rollout.martingale is not None
    assert_mean(rollout.martingale, 0.0)
    left = (rollout.returns - rollout.martingale).var() / rollout.returns.var()
    assert float(left) < 0.02


class Motionless(UncontrolledVolatilitySDE):
    """dX = dW."""

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return torch.zeros_like(x)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return ScalarVolatility(torch.ones_like(t))


class Clock(Reward):
    """One a unit of time, and a prize at the end."""

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return torch.ones_like(t)

    def terminal(self, x: State, context: Context) -> Scalar:
        return x[:, 0]


def test_paths_stop_at_the_first_node_where_they_must() -> None:
    """Discounted to the node where each path ended; what comes later does not count."""
    grid = TimeGrid.uniform(1.0, 4)
    ends = torch.tensor([0.0, 0.25, 0.75, 1.0, 9.0], dtype=torch.float64)
    problem = ControlProblem(
        Motionless(),
        Clock(),
        lambda n, g: (torch.full((n, 1), 2.0, dtype=torch.float64), ends),
        horizon=1.0,
        discount=0.5,
    )
    policy = GaussianPolicy(lambda t, x, c: x, 0.0)
    rollout = simulate(
        problem, policy, grid, 5, generator=seeded(), store="none", stop=lambda t, x, c: t >= c
    )
    assert_close(rollout.times, ends.clamp(max=1.0))
    rate = 0.25 * torch.exp(-0.5 * torch.tensor([0.0, 0.25, 0.5, 0.75], dtype=torch.float64))
    paid = torch.stack([rate[: int(4 * min(1.0, float(t)))].sum() for t in ends])
    assert_close(rollout.returns - paid, (-0.5 * rollout.times).exp() * rollout.final[:, 0])
    assert float(rollout.final[0, 0]) == 2.0


def test_the_chance_to_be_stopped_at_a_barrier() -> None:
    """P(min over nodes < 0) of Brownian motion seen at two nodes, from the bivariate normal law."""
    grid = TimeGrid.from_times([0.0, 0.5, 1.0])
    problem = ControlProblem(
        Motionless(),
        TerminalReward(lambda x, c: (x[:, 0] < 0).to(x)),
        lambda n, g: (torch.zeros(n, 1, dtype=torch.float64), None),
        horizon=1.0,
    )
    policy = GaussianPolicy(lambda t, x, c: x, 0.0)
    rollout = simulate(
        problem,
        policy,
        grid,
        40_000,
        generator=seeded(1),
        store="none",
        stop=lambda t, x, c: (x[:, 0] < 0) & (t > 0),
    )
    both = 0.25 + math.asin(math.sqrt(0.5)) / (2 * math.pi)  # P(W_½ > 0, W_1 > 0)
    assert_mean(rollout.returns, 1 - both)


def test_all_steps_cannot_be_stored_of_paths_that_stop() -> None:
    with pytest.raises(CtcontrolError, match="run to the horizon"):
        simulate(
            plant().problem(),
            _policy(),
            GRID,
            4,
            generator=seeded(),
            stop=lambda t, x, c: t > 0,  # type: ignore[call-overload]  # what is tested
        )


def test_a_scheme_without_a_law_keeps_no_steps() -> None:
    """Innovations, likelihoods and KL need the law of a step, which only solvers know."""
    problem, policy = plant().problem(), _policy()
    rollout = simulate(
        problem, policy, GRID, 8, generator=seeded(), solver=Heun(), store="checkpoints"
    )
    assert bool(torch.isfinite(rollout.returns).all())
    with pytest.raises(CtcontrolError, match="no closed form"):
        simulate(problem, policy, GRID, 8, generator=seeded(), solver=Heun())


def test_noise_drawn_in_single_precision_has_the_same_law() -> None:
    problem, policy, batch = plant().problem(), _policy(), 20_000
    single, double = (
        simulate(
            problem,
            policy,
            GRID,
            batch,
            generator=seeded(3),
            noise=WhiteNoise(4, single=fast),
            store="none",
        )
        for fast in (True, False)
    )
    assert single.final.dtype == torch.float64
    spread = (single.returns.var() / batch + double.returns.var() / batch).sqrt()
    assert float((single.returns.mean() - double.returns.mean()).abs()) < 4 * float(spread)


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_compiled_steps_are_the_same_steps(std: float) -> None:
    system, network = plant(), nn.Linear(3, 2, dtype=torch.float64)
    policy = GaussianPolicy(lambda t, x, c: network(x).tanh(), std)
    plain, compiled = (
        simulate(system.problem(), policy, GRID, 16, generator=seeded(3), compile=backend)
        for backend in (None, "eager")
    )
    assert_close(compiled.states, plain.states, 1e-13)
    assert_close(compiled.returns(), plain.returns(), 1e-13)


def test_a_volatility_may_be_negative() -> None:
    """Then the noise is subtracted, however the step is made: grids that share it stay coupled."""
    system = lq.LQProblem(
        A=[[-0.3]],
        B=[[1.0]],
        Q=[[1.0]],
        R=[[1.0]],
        G=[[1.0]],
        volatility=[[-0.5]],
        horizon=1.0,
        initial_mean=[1.0],
    )
    policy = lq.LinearGaussianPolicy([[0.4]], dtype=torch.float32)
    problem, grid = system.problem(dtype=torch.float32), TimeGrid.uniform(1.0, 5)
    stream, x = WhiteNoise(5).stream(Tile(grid, 0, 0, 64, 64)), torch.ones(64, 1)
    for begin, end in grid.intervals():
        x = x - 0.7 * x * (end - begin) - 0.5 * stream.increment(begin, end, torch.empty(64, 1))
    whole = simulate(problem, policy, grid, 64, generator=seeded(), noise=WhiteNoise(5))
    assert_close(whole.final, x, 1e-5)
    sums = simulate(
        problem, policy, grid, 64, generator=seeded(), noise=WhiteNoise(5), store="none"
    )
    assert_close(sums.final, x, 1e-5)


def test_what_cannot_be_kept_is_refused() -> None:
    problem, policy = plant().problem(), _policy()
    with pytest.raises(CtcontrolError, match=r"one of 'all', 'checkpoints', 'none', got 'some'"):
        simulate(problem, policy, GRID, 4, generator=seeded(), store="some")  # type: ignore[call-overload]  # what is tested
    words = replace(problem, initial=lambda n, g: (problem.initial(n, g)[0], ["word"] * n))
    with pytest.raises(CtcontrolError, match="joined as tensors, but this one is of the kind list"):
        simulate(words, policy, GRID, 20_000, generator=seeded(), store="none")


@pytest.mark.parametrize("grid", [GRID, TimeGrid.uniform(1.0, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("states", [1, 3])
def test_paths_that_nobody_looks_at_are_the_same_paths(
    states: int, dtype: torch.dtype, grid: TimeGrid
) -> None:
    """They move in units of their noise, on uneven grids too; many paths so that layout matters."""
    eye = torch.eye(states).tolist()
    problem = lq.LQProblem(
        A=[[-0.3 * (i == j) + 0.1 * (j > i) for j in range(states)] for i in range(states)],
        B=eye, Q=eye, R=eye, G=eye, volatility=0.7, horizon=1.0, initial_mean=[1.0] * states,
    ).problem(dtype)  # fmt: skip
    problem = replace(problem, reward=TerminalReward(lambda x, c: x[:, 0]))
    policy = lq.LinearGaussianPolicy(
        [[0.4 + 0.1 * (i == j) for j in range(states)] for i in range(states)], dtype=dtype
    )
    with torch.no_grad():
        affine = Run(problem, policy, grid, EulerMaruyama()).affine
    assert affine is not None
    assert affine.plain
    batch, close = 500, 2e-6 if dtype == torch.float32 else 1e-13
    whole = simulate(problem, policy, grid, batch, generator=seeded(5))
    ends = simulate(problem, policy, grid, batch, generator=seeded(5), store="none")
    assert_close(ends.final, whole.final, close)
    assert_close(ends.returns, whole.returns(), close)
    start = problem.initial(1, seeded(0))[0]
    assert_close(whole.states[0], start.expand(batch, -1))


class _Weakened(EulerMaruyama):
    """A scheme that may be changed, and is equal to every other of its kind."""

    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        return WEAKENED["by"] * super().noise(sde, t0, t1, x, a, dw)


WEAKENED = {"by": 1.0}


def test_steps_are_read_off_again_where_the_scheme_may_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem, grid = plant().problem(), TimeGrid.uniform(1.0, 4)

    def run() -> State:
        generator = seeded(3)
        solver, policy = _Weakened(), _policy()
        return simulate(
            problem, policy, grid, 8, generator=generator, solver=solver, store="none"
        ).final

    before = run()
    monkeypatch.setitem(WEAKENED, "by", 0.0)
    assert float((run() - before).abs().min()) > 1e-4


def test_steps_are_read_off_again_where_the_dynamics_are_learned() -> None:
    """What is kept for an SDE must not outlive the graph of its coefficients."""
    rate = torch.tensor([[-0.5]], dtype=torch.float64, requires_grad=True)
    volatility = ConstantVolatility(torch.tensor(0.5).double())
    sde = lq.LinearSDE(rate, torch.ones(1, 1).double(), volatility)
    reward = TerminalReward(lambda x, c: x[:, 0])
    start = lambda n, g: (torch.ones(n, 1).double(), None)
    problem = ControlProblem(sde, reward, start, 1.0)
    policy = lq.LinearGaussianPolicy([[0.2]])
    simulate(problem, policy, GRID, 2, generator=seeded(1), store="none")
    for _ in range(2):
        affine = Run(problem, policy, GRID, EulerMaruyama()).affine
        assert affine is not None
        assert not affine.plain
        affine.steps[0].matrix.sum().backward()  # 1 + (A − BK) 0.1
    assert rate.grad is not None
    assert_close(rate.grad, 0.2)
