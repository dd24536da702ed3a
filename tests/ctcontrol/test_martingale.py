"""The martingale of a value: mean zero whatever V is, and all of the noise for the right V."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    Action,
    Context,
    ControlProblem,
    GaussianPolicy,
    MomentMatched,
    NoiseSource,
    Policy,
    QuadraticStateValue,
    Rollout,
    Scalar,
    State,
    TerminalReward,
    Time,
    TimeGrid,
    Value,
    inner,
    simulate,
)
from ctcontrol.exact import lq
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.tables import plant
from tests.tables.dynamics import Geometric

GRID = TimeGrid.from_times([0.0, 0.1, 0.25, 0.3, 0.6, 0.8, 1.0])
LINEAR = lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]], [0.1, -0.2])


class Bowl(QuadraticStateValue):
    """(1 + t) xᵀMx + 2mᵀx."""

    def __init__(self, states: int) -> None:
        super().__init__()
        root = normal(states, states, seed=1)
        self.M, self.m = root @ root.mT, normal(states, seed=2)

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        return (1 + t) * inner(x, x @ self.M) + 2 * x @ self.m

    def quadratic(self, times: Sequence[float]) -> tuple[Tensor, Tensor]:
        t = torch.tensor(list(times), dtype=torch.float64)
        return (1 + t)[:, None, None] * self.M, self.m.expand(len(t), -1)


def _roll(policy: Policy, value: Value, batch: int, noise: NoiseSource | None = None) -> Rollout:
    return simulate(
        plant().problem(),
        policy,
        GRID,
        batch,
        generator=seeded(1),
        noise=noise,
        store="checkpoints",
        martingale=value,
    )


def _same_law_without_a_matrix() -> Policy:
    """`LINEAR` as a function, which nobody makes an affine map of."""
    return GaussianPolicy(lambda t, x, c: LINEAR.dist(t, x, c).mean.detach())


@pytest.mark.parametrize("policy", [LINEAR, _same_law_without_a_matrix()])
def test_the_value_of_the_chain_leaves_no_variance(policy: Policy) -> None:
    """Return − martingale = V(0, X_0), path by path: discount, clock and covariance are right."""
    value = plant().chain(GRID.times.numpy()).value(LINEAR)
    rollout = _roll(policy, value, 64)
    assert rollout.martingale is not None
    start = rollout.states[0]
    assert_close(
        rollout.returns - rollout.martingale, value.at(torch.zeros(64), start, None), 1e-10
    )
    assert float(rollout.martingale.std()) > 0.1


@pytest.mark.parametrize("std", [0.0, 0.4])
def test_whatever_the_value_the_mean_is_zero(std: float) -> None:
    """Also with random actions, whose noise counts to first order."""
    policy = lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]], [0.1, -0.2], std=std)
    rollout = _roll(policy, Bowl(3), 20_000)
    assert rollout.martingale is not None
    assert_mean(rollout.martingale, 0.0)


def test_first_order_is_the_gradient_against_the_innovation() -> None:
    """A value that is not known to be quadratic: −ρ at the start of the step, ∇V at X_k."""

    class Plain(Value):
        def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
            return (1 + t) * x.sin().sum(1)

    whole = simulate(plant().problem(), LINEAR, GRID, 32, generator=seeded(1))
    weights = (-0.3 * GRID.times[:-1]).exp()[:, None]
    slopes = (1 + GRID.times[:-1])[:, None, None] * whole.states[:-1].cos()
    expected = (weights * (slopes * whole.innovations).sum(2)).sum(0)
    martingale = _roll(LINEAR, Plain(), 32).martingale
    assert martingale is not None
    assert_close(martingale, expected, 1e-12)


def test_noise_that_depends_on_the_state_has_its_own_covariance() -> None:
    """Over groups of matched moments the quadratic part of a step averages to nothing, exactly."""
    start = torch.tensor([[0.7]], dtype=torch.float64)
    scalar = ControlProblem(
        sde=Geometric(),
        reward=TerminalReward(lambda x, context: x[:, 0]),
        initial=lambda batch, generator: (start.expand(batch, -1), None),
        horizon=0.3,
        discount=0.5,
    )
    rollout = simulate(
        scalar,
        GaussianPolicy(lambda t, x, c: -x),
        TimeGrid.uniform(0.3, 1),
        64,
        generator=seeded(1),
        noise=MomentMatched(2, group=64),
        store="none",
        martingale=Bowl(1),
    )
    assert rollout.martingale is not None
    assert abs(float(rollout.martingale.mean())) < 1e-13
    assert float(rollout.martingale.std()) > 0.1
