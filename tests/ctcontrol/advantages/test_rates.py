"""Advantage rates point by point, and how their variances scale."""

import math

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    ActionAdvantage,
    AdvantageEstimator,
    CenteredAdvantage,
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    GeneralizedAdvantage,
    ItoAdvantage,
    MonteCarloAdvantage,
    NoiseAbsorbingPolicy,
    NoiseAwareAdvantage,
    Scalar,
    State,
    TemporalDifferenceAdvantage,
    TerminalReward,
    Time,
    TimeGrid,
    Trajectory,
    Value,
    simulate,
    values_along,
)
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.helpers import assert_close, assert_mean, normal, seeded, slope
from tests.problems import ChainValue, regulator
from tests.tables import plant

SOLVER = EulerMaruyama()
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)
GAIN = [[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]]


def _exact_q(path: Trajectory, temperature: float) -> tuple[Tensor, Tensor]:
    """q at the drawn and at the mean actions of a path of `plant`."""
    rate = plant(temperature=temperature).advantage_rate(
        LinearGaussianPolicy(GAIN, [0.2, -0.1], std=[0.5, 0.3])
    )
    out = []
    for actions in (path.actions, path.means):
        rows = [
            torch.as_tensor(rate(float(t), path.states[j].numpy(), actions[j].numpy()))
            for j, t in enumerate(path.grid.times[:-1])
        ]
        out.append(torch.stack(rows))
    return out[0], out[1]


@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_ito_is_q(temperature: float) -> None:
    """At every point, with dense noise, cross costs, discount, and the entropy bonus."""
    lq, grid = plant(temperature=temperature), TimeGrid.uniform(1.0, 7)
    policy = LinearGaussianPolicy(GAIN, [0.2, -0.1], std=[0.5, 0.3])
    path = simulate(lq.problem(), policy, grid, 20, generator=seeded(1))
    rates = ItoAdvantage()(lq.problem(), SOLVER, lq.value(policy), path)
    # The exact rate leaves the bonus out and so averages to −λ·entropy.
    q, _ = _exact_q(path, temperature)
    entropy = -path.penalties / path.lengths if temperature else torch.zeros(())
    assert_close(rates, q + temperature * entropy, 1e-6)


def test_action_advantage_is_q_up_to_what_no_action_changes() -> None:
    lq, grid = plant(), TimeGrid.uniform(1.0, 7)
    policy = LinearGaussianPolicy(GAIN, [0.2, -0.1], std=[0.5, 0.3])
    path = simulate(lq.problem(), policy, grid, 20, generator=seeded(2))
    rates = ActionAdvantage()(lq.problem(), SOLVER, lq.value(policy), path)
    drawn, mean = _exact_q(path, 0.0)
    assert_close(rates, drawn - mean, 1e-7)


def test_advantages_of_the_exact_value_average_to_zero() -> None:
    """Given the state, over actions and noise: exactly for the chain, whatever the penalty."""
    linear, grid = regulator(kl_weight=0.5), TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
    for absorbs in (False, True):
        mean = linear.mean(K, k)
        policy = (
            NoiseAbsorbingPolicy(mean, linear.sde, SOLVER, grid)
            if absorbs
            else GaussianPolicy(mean, 0.4)
        )
        std = policy.table if isinstance(policy, NoiseAbsorbingPolicy) else STD
        value = ChainValue(grid, linear.values(grid, K, k, std, absorbs=absorbs))
        path = simulate(linear.problem, policy, grid, 20_000, generator=seeded(3))
        for estimator in (
            TemporalDifferenceAdvantage(),
            MonteCarloAdvantage(),
            NoiseAwareAdvantage(),
            GeneralizedAdvantage(2.0),
        ):
            rates = estimator(linear.problem, SOLVER, value, path)
            for j in range(grid.steps):
                x = path.states[j]
                features = torch.cat([torch.ones_like(x[:, :1]), x, x.square()], 1)
                assert_mean(rates[j][:, None] * features, 0.0)


@pytest.mark.parametrize(
    ("estimator", "order"),
    [
        (ActionAdvantage(), 0.0),
        (ItoAdvantage(), 0.0),
        (TemporalDifferenceAdvantage(), 1.0),
        (MonteCarloAdvantage(), 2.0),
        (NoiseAwareAdvantage(), 1.0),
        (GeneralizedAdvantage(2.0), 2.0),
        (CenteredAdvantage(), 0.0),
    ],
)
def test_variance_of_the_rates_as_the_step_shrinks(
    estimator: AdvantageEstimator, order: float
) -> None:
    """The table of the module: none, 1/Δt and 1/Δt², with the exact value."""
    lq, policy = plant(), LinearGaussianPolicy(GAIN, [0.2, -0.1], std=0.5)
    sizes, variances = [10, 20, 40, 80], []
    for n in sizes:
        path = simulate(lq.problem(), policy, TimeGrid.uniform(1.0, n), 1000, generator=seeded(4))
        variances.append(float(estimator(lq.problem(), SOLVER, lq.value(policy), path).var()))
    assert abs(slope(sizes, variances) - order) < 0.25


def test_temporal_difference_by_hand() -> None:
    linear, grid = regulator(kl_weight=0.5), TimeGrid.from_times([0, 0.3, 1.2])
    policy = GaussianPolicy(linear.mean(K, k), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(5))
    value = ChainValue(grid, linear.values(grid, 2 * K, -k, STD))
    rates = TemporalDifferenceAdvantage()(linear.problem, SOLVER, value, path)
    v = values_along(value, path)
    for j, dt in enumerate((0.3, 0.9)):
        change = math.exp(-0.4 * dt) * v[j + 1] - v[j]
        gain = path.rewards[j] * dt - 0.5 * path.penalties[j]
        assert_close(rates[j], (change + gain) / dt)


def test_monte_carlo_without_a_value_is_centred_on_the_batch() -> None:
    linear, grid = regulator(), TimeGrid.from_times([0, 0.3, 1.2])
    policy = GaussianPolicy(linear.mean(K, k), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(6))
    rates = MonteCarloAdvantage()(linear.problem, SOLVER, None, path)
    to_go = path.return_to_go()
    for j, dt in enumerate((0.3, 0.9)):
        assert_close(rates[j], (to_go[j] - to_go[j].mean()) / dt)


class Denoised(Value):
    """A value of x + mean(x): built on the policy's mean, as a denoised image is."""

    def at(self, t: Time, x: State, context: object, mean: Tensor | None = None) -> Scalar:
        return (x + (-3 * x if mean is None else mean)).square().sum(1)


def test_the_gradient_may_go_through_the_mean() -> None:
    """Complete: 2(x − 3x)(1 − 3) = 8x. With the recorded mean −3x as a constant: −4x."""
    linear, grid = regulator(), TimeGrid.uniform(1.2, 3)
    policy = GaussianPolicy(lambda t, x, c: -3 * x, 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(7))
    x, delta = path.states[:-1], path.actions - path.means
    reward = linear.reward.R * (path.means.square() - path.actions.square()).sum(2)
    for through_mean, factor in ((True, 8.0), (False, -4.0)):
        estimator = ActionAdvantage(through_mean=through_mean)
        rates = estimator(linear.problem, SOLVER, Denoised(), path)
        assert_close(rates, 0.8 * factor * (delta * x).sum(2) + reward)


def test_ito_needs_vectors() -> None:
    problem = ControlProblem(
        regulator().sde,
        TerminalReward(lambda x, c: x.sum((1, 2, 3))),
        lambda n, g: (torch.zeros(n, 1, 2, 2, dtype=torch.float64), None),
        horizon=1.2,
    )
    policy = GaussianPolicy(lambda t, x, c: x, 0.1)
    path = simulate(problem, policy, TimeGrid.uniform(1.2, 2), 3, generator=seeded(8))
    with pytest.raises(CtcontrolError, match=r"vector states.*\(1, 2, 2\); use ActionAdvantage"):
        ItoAdvantage()(problem, SOLVER, Denoised(), path)
