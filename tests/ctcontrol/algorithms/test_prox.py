"""Regression on the maximiser of a trust region: the maximiser by hand, and the same gradient."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    PathwisePolicyGradient,
    ProximalRegression,
    TerminalReward,
    TimeGrid,
    gradients_along,
    simulate,
)
from ctcontrol.exact import lq
from tests.helpers import assert_close, normal, seeded
from tests.problems import ChainValue, GaussianDiffusion, regulator
from tests.tables import plant

SOLVER = EulerMaruyama()
GRID = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])


@pytest.mark.parametrize("c", [0.0, 0.7])
def test_the_maximizer_of_a_reverse_diffusion(c: float) -> None:
    """μ′ = (κ s_pre + ∇V + c μ_old)/(κ + c), in every node."""
    linear = GaussianDiffusion().control(0.5, linear=1.3, square=0.4)
    grid = TimeGrid.uniform(1.0, 5)
    gain, shift = torch.tensor([[0.2]]).double(), torch.tensor([0.3]).double()
    policy = GaussianPolicy(linear.mean(gain, shift), 0.3)
    value = ChainValue(grid, linear.values(grid, gain, shift, torch.tensor(0.3).double()))
    path = simulate(linear.problem, policy, grid, 8, generator=seeded(1))
    target = ProximalRegression(proximity=c).signal(linear.problem, SOLVER, value, path)
    slope = gradients_along(value, path, through_mean=True)
    with torch.no_grad():
        reference = path.means - (shift - path.states[:-1] @ gain.mT)
    assert_close(target, (0.5 * reference + slope + c * path.means) / (0.5 + c))


def test_without_a_proximity_it_is_the_iteration_of_kleinman() -> None:
    """a′ = R⁻¹(½Bᵀ∇V − Sᵀx), with cross terms and two coupled actions."""
    problem = plant()
    policy = lq.LinearGaussianPolicy(normal(2, 3, seed=1).numpy() / 2, [0.1, 0.2], std=0.4)
    value = problem.value(policy)
    path = simulate(problem.problem(), policy, TimeGrid.uniform(1.0, 4), 6, generator=seeded(2))
    target = ProximalRegression().signal(problem.problem(), SOLVER, value, path)
    R, B, S = (torch.tensor(m) for m in (problem.R, problem.B, problem.S))
    slope = gradients_along(value, path, through_mean=True)
    best = torch.linalg.solve(R, (0.5 * slope @ B - path.states[:-1] @ S)[..., None])[..., 0]
    assert_close(target, best, 1e-9)


@pytest.mark.parametrize("weight", ["kl_weight", "temperature"])
@pytest.mark.parametrize("c", [0.0, 0.6])
def test_the_loss_is_what_is_left_to_gain(weight: str, c: float) -> None:
    """It differs from the linearised return with proximity by what no parameter changes."""
    linear = regulator(**{weight: 0.4})
    K, k = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2
    policy = GaussianPolicy(linear.mean(K, k), 0.4)
    value = ChainValue(GRID, linear.values(GRID, K, k, torch.tensor(0.4).double()))
    path = simulate(linear.problem, policy, GRID, 16, generator=seeded(3))
    there = GaussianPolicy(linear.mean(K + 0.3, k - 0.2), 0.4)
    prox, linearized = ProximalRegression(proximity=c), PathwisePolicyGradient(proximity=c)
    losses, slopes = [], []
    for algorithm in (prox, linearized):
        signal = algorithm.signal(linear.problem, SOLVER, value, path)
        rows = path.transitions(signal=signal)
        here, moved = (
            algorithm.loss(linear.problem, SOLVER, p, rows).loss for p in (policy, there)
        )
        losses.append((moved - here).detach())
        slopes.append(torch.autograd.grad(moved, list(there.parameters())))
    assert_close(losses[0], losses[1])
    for mine, theirs in zip(*slopes, strict=True):
        assert_close(mine, theirs)


def test_the_target_has_no_loss() -> None:
    linear = regulator(kl_weight=0.4)
    policy = GaussianPolicy(linear.mean(linear.zero, linear.k0), 0.4)
    value = ChainValue(
        GRID, linear.values(GRID, linear.zero, linear.k0, torch.tensor(0.4).double())
    )
    path = simulate(linear.problem, policy, GRID, 16, generator=seeded(3))
    algorithm = ProximalRegression(proximity=0.2)
    rows = path.transitions(signal=algorithm.signal(linear.problem, SOLVER, value, path))

    def target(t: Tensor, x: Tensor, context: object) -> Tensor:
        assert rows.signal is not None
        return rows.signal

    at_target = algorithm.loss(linear.problem, SOLVER, GaussianPolicy(target, 0.4), rows)
    assert_close(at_target.loss, 0.0)
    assert float(algorithm.loss(linear.problem, SOLVER, policy, rows).loss.detach()) > 0.01


class TestDoors:
    def test_nothing_to_maximize(self) -> None:
        linear = regulator()
        problem = dataclasses.replace(
            linear.problem, reward=TerminalReward(lambda x, c: x.square().sum(1))
        )
        policy = GaussianPolicy(linear.mean(linear.zero, linear.k0), 0.4)
        path = simulate(problem, policy, GRID, 4, generator=seeded(1))
        value = ChainValue(GRID, linear.values(GRID, linear.zero, linear.k0, torch.tensor(0.4)))
        with pytest.raises(CtcontrolError, match=r"no maximiser.* is 0 \+ 0; raise the proximity"):
            ProximalRegression().signal(problem, SOLVER, value, path)

    def test_no_value(self) -> None:
        linear = regulator(kl_weight=0.3)
        policy = GaussianPolicy(linear.mean(linear.zero, linear.k0), 0.4)
        path = simulate(linear.problem, policy, GRID, 4, generator=seeded(1))
        with pytest.raises(CtcontrolError, match="ProximalRegression needs a value function"):
            ProximalRegression().signal(linear.problem, SOLVER, None, path)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"proximity": -1.0}, "proximity must be a finite number >= 0, got -1"),
            ({"solves": 0}, "solves must be a whole number >= 1, got 0"),
        ],
    )
    def test_bad_numbers(self, settings: dict[str, Any], says: str) -> None:
        with pytest.raises(CtcontrolError, match=says):
            ProximalRegression(**settings)
