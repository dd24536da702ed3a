"""Actions that move by an SDE: linear-quadratic in closed form, and no algorithm of their own."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from ctcontrol import (
    Action,
    Context,
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    NoiseAwareFit,
    PathwisePolicyGradient,
    ProximalRegression,
    Scalar,
    State,
    Time,
    TimeGrid,
    Updater,
    Value,
    action_as_state,
    gradients_along,
    improve,
    simulate,
)
from ctcontrol.exact import lq
from tests.helpers import assert_close, normal, seeded
from tests.problems import regulator

COST, SPREAD = 0.6, 0.3
PLANT = lq.LQProblem(
    A=[[0.2]],
    B=[[1.0]],
    Q=[[1.0]],
    R=[[0.5]],
    G=[[0.8]],
    volatility=0.4,
    horizon=1.0,
    initial_mean=[0.7],
    initial_covariance=0.3,
    discount=0.2,
)
# The same by hand: the regulator of (x, u) with da = Ψ dt + σ_a dW and the cost ½λΨ².
AUGMENTED = lq.LQProblem(
    A=[[0.2, 1.0], [0.0, 0.0]],
    B=[[0.0], [1.0]],
    Q=[[1.0, 0.0], [0.0, 0.5]],
    R=[[COST / 2]],
    G=[[0.8, 0.0], [0.0, 0.0]],
    volatility=[[0.4, 0.0], [0.0, SPREAD]],
    horizon=1.0,
    initial_mean=[0.7, 0.1],
    initial_covariance=[[0.3, 0.0], [0.0, 0.25]],
    discount=0.2,
)


class _Value(Value):
    """−zᵀ(G + (T − t)M)z − (T − t)(2m·z + c): quadratic in z, linear in what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(6, dtype=torch.float64))

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        a, b, c, d, e, f = self.theta
        z, u = x[:, 0], x[:, 1]
        rate = a * z**2 + b * z * u + c * u**2 + d * z + e * u + f
        return -0.8 * z**2 - (1 - t) * rate


def _problem() -> ControlProblem:
    start = lq.LinearGaussianPolicy([[0.0]], [0.1], std=0.5)
    return action_as_state(
        PLANT.problem(), start, states=1, action_volatility=SPREAD, control_cost=COST
    )


def test_the_problem_is_the_augmented_regulator() -> None:
    mine, theirs = _problem(), AUGMENTED.problem()
    t, z, psi = torch.rand(9).double(), normal(9, 2, seed=1), normal(9, 1, seed=2)
    assert_close(mine.sde.drift(t, z, psi, None), theirs.sde.drift(t, z, psi, None))
    noise = normal(9, 2, seed=3)
    moved = mine.sde.volatility(t, z, psi).mul(noise)
    assert_close(moved, theirs.sde.volatility(t, z, psi).mul(noise))
    assert_close(mine.reward.running(t, z, psi, None), theirs.reward.running(t, z, psi, None))
    assert_close(mine.reward.terminal(z, None), theirs.reward.terminal(z, None))
    start, _ = mine.initial(40_000, seeded(1))
    assert np.allclose(start.mean(0), [0.7, 0.1], atol=0.02)
    assert np.allclose(np.cov(start.mT), [[0.3, 0.0], [0.0, 0.25]], atol=0.02)


def test_the_regression_target_is_the_slope_of_q_over_the_cost() -> None:
    """Ψ′ = ∂_a Q/λ with the exact Q, and at the optimum the optimal drift itself."""
    problem, grid = _problem(), TimeGrid.uniform(1.0, 4)
    policy = lq.LinearGaussianPolicy([[0.3, 0.5]], [0.2], std=0.4)
    value = AUGMENTED.value(policy)
    path = simulate(problem, policy, grid, 6, generator=seeded(1))
    target = ProximalRegression().signal(problem, EulerMaruyama(), value, path)
    slope = gradients_along(value, path, through_mean=True)
    assert_close(target, slope[..., 1:] / COST)
    best = lq.FixedLinearGaussianPolicy(AUGMENTED.optimal_policy())
    path = simulate(problem, best, grid, 6, generator=seeded(1))
    value = AUGMENTED.value(best)
    target = ProximalRegression().signal(problem, EulerMaruyama(), value, path)
    assert_close(target, path.means, 1e-7)


@pytest.mark.parametrize(
    "algorithm", [ProximalRegression(epochs=4), PathwisePolicyGradient(epochs=4)]
)
def test_it_is_learned_by_the_algorithms_there_are(
    algorithm: ProximalRegression | PathwisePolicyGradient,
) -> None:
    policy = lq.LinearGaussianPolicy([[0.0, 0.0]], std=0.2)
    value = _Value()
    run = improve(
        _problem(),
        policy,
        algorithm,
        TimeGrid.uniform(1.0, 16),
        batch=256,
        minibatch=1024,
        updater=Updater.adam(policy, 0.02, clip_norm=100.0),
        generator=seeded(2),
        value=value,
        critic=NoiseAwareFit(epochs=4, minibatch=1024),
        critic_updater=Updater.adam(value, 0.03, clip_norm=100.0),
    )
    start = AUGMENTED.expected_return(policy)
    for _ in itertools.islice(run, 30):
        pass
    regret = AUGMENTED.optimal_return() - AUGMENTED.expected_return(policy)
    assert regret < 0.25 * (AUGMENTED.optimal_return() - start)


class TestDoors:
    def test_no_regularizer(self) -> None:
        linear = regulator(kl_weight=0.3)
        start = GaussianPolicy(linear.mean(linear.zero, linear.k0), 0.3)
        with pytest.raises(CtcontrolError, match="the action becomes a state, so PathKL"):
            action_as_state(
                linear.problem, start, states=2, action_volatility=0.1, control_cost=1.0
            )

    @pytest.mark.parametrize(
        ("numbers", "says"),
        [
            ((-1.0, 1.0), "action_volatility must be a finite number >= 0, got -1"),
            ((1.0, 0.0), "control_cost must be a finite number > 0, got 0"),
        ],
    )
    def test_numbers(self, numbers: tuple[float, float], says: str) -> None:
        start = lq.LinearGaussianPolicy([[0.0]], std=0.5)
        with pytest.raises(CtcontrolError, match=says):
            action_as_state(
                PLANT.problem(),
                start,
                states=1,
                action_volatility=numbers[0],
                control_cost=numbers[1],
            )
