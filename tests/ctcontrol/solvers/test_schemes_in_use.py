"""What a scheme without a law of its step is good for, and who refuses it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.helpers import assert_mean, normal, seeded
from tests.problems import regulator
from tests.tables import plant

GRID = ct.TimeGrid.uniform(1.0, 8)
POLICY = LinearGaussianPolicy([[0.9, 0.2, 0.0], [0.1, 0.8, 0.3]], [0.2, -0.1])


def _closed(problem: ct.ControlProblem) -> ct.ControlProblem:
    loop = ct.closed_loop(problem.sde, POLICY)
    return ct.ControlProblem(loop, problem.reward, problem.initial, problem.horizon)


@pytest.mark.parametrize("scheme", [ct.Heun(), ct.SRA1()], ids=repr)
def test_eight_steps_have_the_moments_of_the_limit(scheme: ct.Scheme) -> None:
    """Within the error of sampling 40,000 paths, through the loop itself."""
    problem, moments = _closed(plant().problem()), plant().moments(POLICY)
    mean, second = torch.tensor(moments.mean(1.0)), torch.tensor(moments.covariance(1.0))
    second = second + torch.outer(mean, mean)

    path = ct.simulate(
        problem, POLICY, GRID, 40_000, generator=seeded(1), solver=scheme, store="none"
    )
    x = path.final
    assert_mean(x, mean, bias=0.002)
    assert_mean(x[:, :, None] * x[:, None, :], second, bias=0.004)


def test_an_environment_takes_any_scheme() -> None:
    episodes = ct.Episodes(plant().problem(), GRID, 3, generator=seeded(), solver=ct.SRA1())
    start = episodes.state
    episodes.step(normal(3, 2))
    assert episodes.state.shape == start.shape
    assert not torch.equal(episodes.state, start)


def _path() -> ct.Trajectory:
    return ct.simulate(plant().problem(), POLICY, GRID, 3, generator=seeded())


def _improve(solver: Any) -> object:
    linear = regulator()
    policy = ct.GaussianPolicy(linear.mean(linear.zero, linear.k0), 0.3)
    return ct.improve(
        linear.problem,
        policy,
        ct.PolicyGradient(advantage=ct.MonteCarloAdvantage()),
        ct.TimeGrid.uniform(1.2, 4),
        batch=4,
        minibatch=4,
        updater=ct.Updater.adam(policy, 1e-3),
        generator=seeded(),
        solver=solver,
    )


def _absorbed(solver: Any) -> object:
    linear = regulator()
    mean = linear.mean(linear.zero, linear.k0)
    return ct.NoiseAbsorbingPolicy(mean, linear.sde, solver, GRID)


def _penalized(solver: Any) -> object:
    problem = plant().problem()
    penalized = ct.ControlProblem(
        problem.sde, problem.reward, problem.initial, 1.0, regularizer=ct.PathKL(POLICY, 1.0)
    )
    return ct.Episodes(penalized, GRID, 3, generator=seeded(), solver=solver)


NEEDS: dict[str, Callable[[Any], object]] = {
    "improve": _improve,
    "path_log_ratio": lambda s: ct.path_log_ratio(
        plant().problem(), POLICY, POLICY, _path(), solver=s
    ),
    "path_kl": lambda s: ct.path_kl(plant().problem(), POLICY, POLICY, _path(), solver=s),
    "performance_difference": lambda s: ct.performance_difference(
        plant().problem(), plant().value(POLICY), _path(), solver=s
    ),
    "absorbing policies": _absorbed,
    "penalized episodes": _penalized,
}


@pytest.mark.parametrize("needs", NEEDS)
def test_who_needs_the_law_of_a_step_says_so(needs: str) -> None:
    message = r"solver must be of the kind Solver, got SRA1; the law of its step has no closed form"
    with pytest.raises(ct.CtcontrolError, match=message):
        NEEDS[needs](ct.SRA1())
