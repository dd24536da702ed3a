"""Before the first update the likelihood ratio is one, or the run says what is wrong."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import (
    Algorithm,
    ContinuousPPO,
    ControlProblem,
    GaussianPolicy,
    Iteration,
    MonteCarloAdvantage,
    NumericalError,
    Passes,
    Policy,
    PolicyLoss,
    Solver,
    TimeGrid,
    Trajectory,
    Transitions,
    Updater,
    Value,
    improve,
)
from ctcontrol.exact.lq import LQProblem
from tests.helpers import seeded


def first(policy: GaussianPolicy, algorithm: Algorithm, states: int) -> Iteration:
    """One iteration on a regulator with so many states and controls."""
    eye = torch.eye(states).tolist()
    problem = LQProblem(
        A=eye, B=eye, Q=eye, R=eye, G=eye, volatility=eye, horizon=1.0, initial_mean=[1.0] * states
    ).problem(torch.float32)
    return next(
        improve(
            problem,
            policy,
            algorithm,
            TimeGrid.uniform(1.0, 4),
            batch=32,
            minibatch=32,
            updater=Updater.adam(policy, 0.01),
            generator=seeded(1),
        )
    )


class Network(nn.Module):
    """A gain, in front of dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.drop = nn.Parameter(torch.full((), 0.1)), nn.Dropout(0.5)

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.drop(self.gain * x)


def test_dropout_in_the_policy_is_found_out() -> None:
    policy = GaussianPolicy(Network(), 0.3)
    algorithm = ContinuousPPO(advantage=MonteCarloAdvantage())
    says = r"should be 0 but reaches .*; put dropout and batch statistics in evaluation mode"
    with pytest.raises(NumericalError, match=says):
        first(policy, algorithm, 2)
    policy.eval()
    assert first(policy, algorithm, 2).updates == 4


@dataclass(frozen=True)
class Off(Passes):
    """Every log ratio is a little beside 0."""

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """Nothing."""
        return torch.zeros_like(trajectory.rewards)

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """Nothing either."""
        total = torch.stack([p.sum() for p in policy.parameters()]).sum()
        return PolicyLoss(0 * total, torch.full_like(rows.t0, 2e-4))


def test_rounding_may_add_up_over_coordinates() -> None:
    """2e-4 is a mistake in two numbers, and 1e-6 each in two hundred."""
    policy = GaussianPolicy(Network().eval(), 0.3)
    with pytest.raises(NumericalError, match=r"should be 0 but reaches 0\.0002"):
        first(policy, Off(), 2)
    assert first(policy, Off(), 200).updates == 4
