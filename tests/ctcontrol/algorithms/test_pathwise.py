"""The pathwise gradient: golden numbers, and the trust region whose maximiser is known."""

import pytest
import torch

from ctcontrol import (
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    PathwisePolicyGradient,
    TimeGrid,
    simulate,
)
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.problems import ChainValue, GaussianDiffusion, regulator

SOLVER = EulerMaruyama()
ZERO = torch.zeros((), dtype=torch.float64)

# Reverse diffusion of N(0.7, 0.5), score moved by 0.3 − 0.2y, reward 1.3y − 0.4y², κ = 0.5: the
# gradient with respect to shift and slope, by differentiating the moment equations.
GOLDEN = torch.tensor([0.19638433, 0.29901913], dtype=torch.float64)
SLOPE, SHIFT = torch.tensor([[0.2]]).double(), torch.tensor([0.3]).double()


def test_the_chain_of_the_test_tends_to_the_golden_gradient() -> None:
    found = []
    for n in (400, 800):
        linear = GaussianDiffusion().control(0.5, 1.3, 0.4)
        K, k, _ = linear.gradient(TimeGrid.uniform(1.0, n), SLOPE, SHIFT, ZERO)
        found.append(torch.stack([k[0], -K[0, 0]]))
    assert_close(2 * found[1] - found[0], GOLDEN, 2e-5)  # Richardson


@pytest.mark.parametrize("std", [0.0, 1.0])
def test_fine_tuning_a_diffusion_has_the_golden_gradient(std: float) -> None:
    """With the value at the node itself: O(Δt), and free of the exploration."""
    steps, linear = 100, GaussianDiffusion().control(0.5, 1.3, 0.4)
    grid = TimeGrid.uniform(1.0, steps)
    policy = GaussianPolicy(linear.mean(SLOPE, SHIFT), std)
    values = linear.values(grid, SLOPE, SHIFT, torch.tensor(std, dtype=torch.float64))
    value, algorithm, found = ChainValue(grid, values), PathwisePolicyGradient(), []
    generator = seeded(1)
    for _ in range(40):
        path = simulate(linear.problem, policy, grid, 256, generator=generator)
        rows = path.transitions(signal=algorithm.signal(linear.problem, SOLVER, value, path))
        loss = algorithm.loss(linear.problem, SOLVER, policy, rows).loss
        K, k = torch.autograd.grad(-loss, list(policy.parameters()))
        found.append(torch.stack([k[0], -K[0, 0]]))
    assert_mean(torch.stack(found), GOLDEN, bias=1.5 / steps)


def test_the_proximal_step_is_the_explicit_one() -> None:
    """The loss stands still at μ' = (κ s_ref + ∇V + c μ_old)/(κ + c), weights of g² cancelled."""
    kappa, c = 0.5, 0.8
    linear, grid = GaussianDiffusion().control(kappa, 1.3, 0.4), TimeGrid.uniform(1.0, 4)
    policy = GaussianPolicy(linear.mean(SLOPE, SHIFT))
    path = simulate(linear.problem, policy, grid, 6, generator=seeded(2))
    gradient = normal(4, 6, 1, seed=3)
    rows = path.transitions(signal=gradient)
    assert rows.anchor is not None
    assert rows.signal is not None
    best = (kappa * rows.anchor + rows.signal + c * rows.law.mean) / (kappa + c)

    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rows = torch.nn.Parameter(best.clone())

        def forward(self, t: torch.Tensor, x: torch.Tensor, context: object) -> torch.Tensor:
            return self.rows

    candidate = GaussianPolicy(Table())
    algorithm = PathwisePolicyGradient(proximity=c)
    algorithm.loss(linear.problem, SOLVER, candidate, rows).loss.backward()
    slope = next(candidate.parameters()).grad
    assert slope is not None
    assert_close(slope, 0.0)


def test_running_rewards_of_the_action_count() -> None:
    """With a flat value, the gradient is that of the running reward at the mean."""
    linear, grid = regulator(), TimeGrid.from_times([0.0, 0.3, 1.2])
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(4))
    rows = path.transitions(signal=torch.zeros(2, 5, 2).double())
    loss = PathwisePolicyGradient().loss(linear.problem, SOLVER, policy, rows).loss
    slope = torch.autograd.grad(loss, list(policy.parameters()))[1]
    weight = torch.exp(-0.4 * grid.times[:-1]) * grid.lengths
    by_hand = (weight[:, None, None] * 2 * linear.reward.R * path.means).sum(0).mean(0)
    assert_close(slope, by_hand)


def test_a_deterministic_policy_is_welcome() -> None:
    linear, grid = regulator(), TimeGrid.uniform(1.2, 3)
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)))
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(5))
    rows = path.transitions(signal=normal(3, 5, 2))
    result = PathwisePolicyGradient().loss(linear.problem, SOLVER, policy, rows)
    assert torch.equal(result.log_ratio, torch.zeros(15).double())
    assert bool(torch.isfinite(result.loss))


def test_the_log_ratio_reports_how_far_the_policy_went() -> None:
    linear, grid = regulator(), TimeGrid.uniform(1.2, 3)
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(6))
    rows = path.transitions(signal=normal(3, 5, 2))
    moved = GaussianPolicy(linear.mean(normal(2, 2) + 0.1, normal(2)), 0.4)
    result = PathwisePolicyGradient().loss(linear.problem, SOLVER, moved, rows)
    law = moved.dist(rows.t0, rows.x, None)
    expected = law.log_prob(rows.action) - rows.law.log_prob(rows.action)
    assert_close(result.log_ratio, expected.detach())


def test_bad_numbers_and_missing_values_are_named() -> None:
    with pytest.raises(CtcontrolError, match="proximity must be a finite number >= 0, got -1"):
        PathwisePolicyGradient(proximity=-1.0)
    linear, grid = regulator(), TimeGrid.uniform(1.2, 3)
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)))
    path = simulate(linear.problem, policy, grid, 2, generator=seeded(7))
    with pytest.raises(CtcontrolError, match="PathwisePolicyGradient needs a value function"):
        PathwisePolicyGradient().signal(linear.problem, SOLVER, None, path)
