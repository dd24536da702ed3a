"""The centered advantage: q itself, and what its average over actions gets right."""

from dataclasses import dataclass

import pytest
import torch

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.problems import ChainValue, Isotropic, constant, regulator
from tests.tables import plant

SOLVER = ct.EulerMaruyama()
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


@dataclass(frozen=True)
class Powers(ct.Reward):
    """r = Σ_i c·a_i^power + a₁a₂ at every state."""

    power: int

    def running(self, t: ct.Time, x: ct.State, a: ct.Action, context: object) -> ct.Scalar:
        return a.pow(self.power).sum(1) + a[:, 0] * a[:, 1]

    def terminal(self, x: ct.State, context: object) -> ct.Scalar:
        return x.sum(1)


def test_it_is_q_of_a_regulator() -> None:
    """With dense noise, cross costs and discount, at every drawn action; not up to a constant."""
    lq, grid = plant(), ct.TimeGrid.uniform(1.0, 7)
    policy = LinearGaussianPolicy([[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]], [0.2, -0.1], std=[0.5, 0.3])
    path = ct.simulate(lq.problem(), policy, grid, 20, generator=seeded(1))
    rates = ct.CenteredAdvantage()(lq.problem(), SOLVER, lq.value(policy), path)
    q = lq.advantage_rate(policy)
    exact = [
        torch.as_tensor(q(float(t), path.states[j].numpy(), path.actions[j].numpy()))
        for j, t in enumerate(grid.times[:-1])
    ]
    assert_close(rates, torch.stack(exact), 1e-7)


@pytest.mark.parametrize(("power", "moment"), [(1, 0), (2, 1), (3, 0), (4, 3), (5, 0)])
def test_powers_of_a_coordinate_are_averaged_exactly(power: int, moment: float) -> None:
    """E ς^p ξ^p at mean 0: one node too few, or a weight of ½, misses the fourth moment."""
    sde = Isotropic(constant(0.0), constant(0.0), constant(1.0))
    start = torch.zeros(5, 2, dtype=torch.float64)
    problem = ct.ControlProblem(sde, Powers(power), lambda n, g: (start, None), 1.0)
    policy = ct.GaussianPolicy(lambda t, x, c: 0 * x, 0.7)
    path = ct.simulate(problem, policy, ct.TimeGrid.uniform(1.0, 2), 5, generator=seeded(2))
    value = ct.LinearValue(lambda t, x, c: x, 2)
    rates = ct.CenteredAdvantage()(problem, SOLVER, value, path)
    a = path.actions
    by_hand = a.pow(power).sum(2) + a[..., 0] * a[..., 1] - 2 * moment * 0.7**power
    assert_close(rates, by_hand, 1e-12)


def test_it_averages_to_zero_over_actions() -> None:
    linear, grid = regulator(kl_weight=0.5), ct.TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
    policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
    value = ChainValue(grid, linear.values(grid, K, k, STD))
    path = ct.simulate(linear.problem, policy, grid, 20_000, generator=seeded(3))
    centered = ct.CenteredAdvantage()(linear.problem, SOLVER, value, path)
    plain = ct.ActionAdvantage()(linear.problem, SOLVER, value, path)
    for j in range(grid.steps):
        x = path.states[j]
        features = torch.cat([torch.ones_like(x[:, :1]), x, x.square()], 1)
        assert_mean(centered[j][:, None] * features, 0.0)
    # what the uncentered one leaves out is the price of exploration, −R·d·ς²
    assert_close(centered - plain, torch.full_like(plain, 0.3 * 2 * 0.16), 1e-9)


def test_without_exploration_it_is_zero() -> None:
    linear, grid = regulator(), ct.TimeGrid.uniform(1.2, 3)
    policy = ct.GaussianPolicy(linear.mean(K, k))
    path = ct.simulate(linear.problem, policy, grid, 4, generator=seeded(4))
    rates = ct.CenteredAdvantage()(
        linear.problem, SOLVER, ct.LinearValue(lambda t, x, c: x, 2), path
    )
    assert_close(rates, 0.0)


@pytest.mark.parametrize("reward", [Powers(2), ct.TerminalReward(lambda x, c: x.sum(1))])
def test_too_many_coordinates_are_refused_unless_the_type_is_affine(reward: ct.Reward) -> None:
    sde = Isotropic(constant(0.0), constant(1.0), constant(1.0))
    start = torch.zeros(3, 65, dtype=torch.float64)
    problem = ct.ControlProblem(sde, reward, lambda n, g: (start, None), 1.0)
    policy = ct.GaussianPolicy(lambda t, x, c: x, 0.1)
    path = ct.simulate(problem, policy, ct.TimeGrid.uniform(1.0, 2), 3, generator=seeded(5))
    value = ct.LinearValue(lambda t, x, c: x, 65)
    if isinstance(reward, ct.TerminalReward):
        rates = ct.CenteredAdvantage()(problem, SOLVER, value, path)
        assert torch.equal(rates, ct.ActionAdvantage()(problem, SOLVER, value, path))
        return
    with pytest.raises(ct.CtcontrolError, match=r"65 coordinates takes 131 eval.*use ActionAdv"):
        ct.CenteredAdvantage()(problem, SOLVER, value, path)
