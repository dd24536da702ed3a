"""Likelihood ratios and KL of DDIM chains: of the steps taken, not of an integral."""

import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from ctcontrol_diffusion.solvers import DDIM
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.helpers import assert_close, assert_mean, seeded

MODEL = GaussianModel(floor=0.02)


def _problem() -> ct.ControlProblem:
    mean, variance = MODEL.start

    def initial(batch: int, generator: torch.Generator) -> tuple[Tensor, None]:
        noise = torch.randn(batch, 2, generator=generator, dtype=torch.float64)
        return mean + variance.sqrt() * noise, None

    reward = ct.TerminalReward(lambda x, c: x.sum(1))
    return ct.ControlProblem(MODEL.sde, reward, initial, MODEL.schedule.horizon)


@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize("steps", [5, 30])
def test_ratios_of_few_step_samplers(eta: float, steps: int) -> None:
    """E e^{−log ratio} = 1, and E log ratio = Σ KL of the steps, at 5 steps as at 30."""
    problem, solver, grid = _problem(), DDIM(eta), MODEL.grid(steps)
    tuned = ct.GaussianPolicy(lambda t, x, c: MODEL.score(t, x) + 0.15 - 0.05 * x)
    base = ct.GaussianPolicy(MODEL.score)
    path = ct.simulate(problem, tuned, grid, 20_000, generator=seeded(1), solver=solver)
    log_ratio = ct.path_log_ratio(problem, tuned, base, path, solver=solver)
    assert_mean((-log_ratio).exp(), 1.0)
    kl = ct.path_kl(problem, tuned, base, path, solver=solver)
    assert_mean(log_ratio, kl.mean, bias=4 * kl.stderr)
    # the integral that Euler–Maruyama discretises is the KL of another chain
    other = ct.path_kl(problem, tuned, base, path, solver=ct.EulerMaruyama())
    assert abs(other.mean - kl.mean) > 0.1 * kl.mean


def test_a_policy_that_absorbs_the_noise_has_the_ratio_of_its_paths() -> None:
    problem, solver, grid = _problem(), DDIM(), MODEL.grid(6)
    tuned, base = (
        ct.NoiseAbsorbingPolicy(mean, MODEL.sde, solver, grid)
        for mean in (lambda t, x, c: MODEL.score(t, x) + 0.2, MODEL.score)
    )
    path = ct.simulate(problem, tuned, grid, 200, generator=seeded(2), solver=solver)
    of_paths = ct.path_log_ratio(problem, tuned, base, path, solver=solver)
    assert_close(ct.action_log_ratio(tuned, base, path), of_paths, 1e-8)


def test_without_noise_there_is_no_ratio() -> None:
    problem, grid = _problem(), MODEL.grid(4)
    policy = ct.GaussianPolicy(MODEL.score)
    ode = DDIM(eta=0.0)
    path = ct.simulate(problem, policy, grid, 3, generator=seeded(3), solver=ode)
    with pytest.raises(ct.CtcontrolError, match="a step without noise"):
        ct.path_log_ratio(problem, policy, policy, path, solver=ode)
    with pytest.raises(ct.CtcontrolError, match="path KL are infinite"):
        ct.path_kl(problem, policy, policy, path, solver=ode)
