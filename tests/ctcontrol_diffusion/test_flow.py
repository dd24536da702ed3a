"""The straight path of flow matching, its clock, and the sampler made for it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ctcontrol import CtcontrolError, like
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import LEAST_SIGNAL, FlowSchedule, NoiseSchedule
from ctcontrol_diffusion.score import NetworkScore
from ctcontrol_diffusion.solvers import DDIM, ExponentialNoiseVP, ExponentialVP, FlowSDE
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.ctcontrol_diffusion.test_predictions import MEAN, VARIANCE, Exact, exact_score
from tests.helpers import assert_close, normal


def at(*times: float) -> Tensor:
    return torch.tensor(times, dtype=torch.float64)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
def test_the_forward_process_has_these_coefficients(shift: float) -> None:
    """dσ²/ds = β + 2 σ² d log α/ds, all by differences of α and σ."""
    made, t, h = FlowSchedule(shift, 0.0), at(0.2, 0.5, 0.9), 1e-6
    assert_close(made.alpha(t) + made.sigma(t), 1.0)
    growth = (made.alpha(t + h).log() - made.alpha(t - h).log()) / (2 * h)
    assert_close(made.growth(t), growth, 1e-6)
    rate = -(made.variance(t + h) - made.variance(t - h)) / (2 * h)  # per unit of s
    assert_close(made.beta(t), rate + 2 * growth * made.variance(t), 1e-6)
    t1 = t + 0.05
    expected = made.variance(t) - (made.alpha(t) / made.alpha(t1)) ** 2 * made.variance(t1)
    assert_close(made.added(t, t1), expected)


def test_control_time_runs_from_noise_to_data() -> None:
    made = FlowSchedule(3.0, 0.0)
    assert made.sigma(at(0.0, 1.0)).tolist() == [1 - LEAST_SIGNAL, 0.0]
    assert made.network_time(at(0.0, 1.0)).tolist() == [1000, 0]
    assert_close(made.sigma(at(0.5)), 3 * 0.5 / (1 + 2 * 0.5))
    assert made.grid(4).times.tolist() == [0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("solver", [FlowSDE(0.0), DDIM(0.0)])
def test_without_noise_steps_are_those_of_diffusers(shift: float, solver: DDIM | FlowSDE) -> None:
    made: Any = FlowMatchEulerDiscreteScheduler(shift=shift)
    made.set_timesteps(sigmas=np.linspace(1, 0.1, 10).tolist())
    schedule = FlowSchedule.from_diffusers(made, 0.0)
    sde, grid = ReverseSDE(schedule), schedule.grid(10)
    score = NetworkScore(Exact("flow_prediction"), schedule, "flow_prediction")
    for k, time in enumerate(made.timesteps):
        x, t0, t1 = normal(3, 1, 2, 2, seed=k), *(grid.times[i].expand(3) for i in (k, k + 1))
        assert_close(schedule.network_time(t0), time.double().expand(3), 1e-6)
        velocity = score.output(schedule.timestep(t0), x, None)
        theirs = made.step(velocity, time, x, return_dict=False)[0]
        step = solver.mean(sde, t0, t1, x, score(t0, x, None), None)
        # at pure noise, α is kept above 0
        tolerance = 5e-4 if k == 0 else 1e-5
        torch.testing.assert_close(step, theirs, rtol=tolerance, atol=tolerance, check_dtype=False)


@pytest.mark.parametrize("share", [0.7, 1.0])
def test_with_noise_steps_are_those_of_flow_grpo(share: float) -> None:
    """mean = x(1 + ς²Δ/2s) + v(1 + ς²(1 − s)/2s)Δ with Δ = s' − s, ς = a√(s/(1 − s))."""
    schedule, solver = FlowSchedule(3.0, 0.0), FlowSDE(share / math.sqrt(2))
    sde, sigmas = ReverseSDE(schedule), schedule.sigma(schedule.grid(10).times)
    for k in range(10):
        s, later = float(sigmas[k]), float(sigmas[k + 1])
        t0, t1 = (schedule.grid(10).times[i].expand(2) for i in (k, k + 1))
        x, v = normal(2, 3, seed=k), normal(2, 3, seed=k + 100)
        a = -(x + like(schedule.alpha(t0), x) * v) / s
        level = later if k == 0 else s
        noise, span = share * math.sqrt(level / (1 - level)), later - s
        mean = x * (1 + noise**2 / (2 * s) * span)
        mean = mean + v * (1 + noise**2 * (1 - s) / (2 * s)) * span
        assert_close(solver.mean(sde, t0, t1, x, a, None), mean, 1e-8)
        unit = like((t1 - t0).sqrt(), x) * torch.ones_like(x)
        assert_close(solver.noise(sde, t0, t1, x, a, unit), noise * math.sqrt(-span), 1e-8)


def ends(solver: DDIM | FlowSDE | ExponentialVP | ExponentialNoiseVP, steps: int) -> list[float]:
    """Errors of mean and variance at the horizon for Gaussian data and its exact score."""
    schedule = FlowSchedule(2.0, 0.05)
    sde, grid = ReverseSDE(schedule), schedule.grid(steps)
    mean, variance = at(0.0), at(1.0)  # N(0, 1): what samplers start from
    for begin, end in grid.intervals():
        t0, t1 = at(begin), at(end)

        def step(x: Tensor, t0: Tensor = t0, t1: Tensor = t1) -> Tensor:
            return solver.mean(sde, t0, t1, x, exact_score(schedule, t0, x), None)

        slant = step(mean + 1) - step(mean)
        root = solver.noise(sde, t0, t1, mean, mean, (t1 - t0).sqrt())
        mean, variance = step(mean), slant**2 * variance + root**2
    last = at(schedule.horizon)
    alpha = schedule.alpha(last)
    truth = alpha * MEAN, alpha**2 * VARIANCE + schedule.variance(last)
    return [float(mean - truth[0]), float(variance - truth[1])]


@pytest.mark.parametrize("solver", [FlowSDE(0.0), FlowSDE(0.5), FlowSDE(1.0), DDIM(1.0)])
def test_every_share_of_noise_leaves_the_same_marginals(solver: DDIM | FlowSDE) -> None:
    counts = [50, 100, 200]
    errors = [ends(solver, n) for n in counts]
    assert abs(errors[-1][0]) < 0.01
    assert abs(errors[-1][1]) < 0.02
    assert all(abs(variance) * n < 3 for n, (_, variance) in zip(counts, errors, strict=True))


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_the_exponential_step_is_exact_for_gaussian_data(steps: int) -> None:
    """As for variance-preserving schedules; only the start differs, by α = 2⁻¹²."""
    mean, variance = ends(ExponentialVP(VARIANCE), steps)
    assert abs(mean) < 1e-3
    assert abs(variance) < 1e-6
    assert abs(ends(ExponentialVP(0.0), steps)[1]) > 1e-3


def test_the_noise_form_converges() -> None:
    errors = [abs(ends(ExponentialNoiseVP(), n)[1]) for n in (100, 200)]
    assert errors[1] < 0.6 * errors[0] < 0.05


def test_kl_of_a_step_in_closed_form() -> None:
    """½Δ(ς/2 + 1/ς · s/(1 − s))²|a − a'|²: for η = 1, (s/(1 − s))·2Δ·½|Δa|²."""
    schedule, solver = FlowSchedule(1.0, 0.02), FlowSDE(1.0)
    t0, t1 = at(0.3, 0.6), at(0.31, 0.7)
    a, b = normal(2, 4), normal(2, 4, seed=1)
    s = schedule.sigma(t0)
    expected = 0.5 * 2 * s / (1 - s) * (t1 - t0) * (a - b).square().sum(1)
    assert_close(solver.step_kl(ReverseSDE(schedule), t0, t1, a, a, b, None), expected)


def test_the_last_step_to_the_data_is_noisy_but_ode_steps_are_not() -> None:
    sde, x = ReverseSDE(FlowSchedule(1.0, 0.0)), normal(1, 2)
    kl = FlowSDE(0.5).step_kl(sde, at(0.75), at(1.0), x, x + 1, x, None)
    assert bool(kl.isfinite().all())
    with pytest.raises(CtcontrolError, match=r"FlowSDE\(eta=0.0\) has a step without noise"):
        FlowSDE(0.0).step_kl(sde, at(0.75), at(1.0), x, x + 1, x, None)


def test_what_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="FlowSDE steps flow-matching models; use DDIM"):
        FlowSDE().coefficients(GaussianModel().schedule, at(0.1), at(0.2))
    with pytest.raises(CtcontrolError, match="eta must be"):
        FlowSDE(-0.1)
    with pytest.raises(CtcontrolError, match="shift must be"):
        FlowSchedule(0.0, 0.02)
    with pytest.raises(CtcontrolError, match="floor must lie"):
        FlowSchedule(1.0, 1.0)
    made = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with pytest.raises(CtcontrolError, match=r"use_dynamic_shifting.*set shift to a number"):
        FlowSchedule.from_diffusers(made, 0.02)


def test_grids_of_discrete_times() -> None:
    table = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    made = NoiseSchedule.from_alphas_cumprod(table, 0.02)
    for steps in (4, 10, 25, 50, 900):
        grid = made.grid(steps)
        assert grid.steps == steps
        times = made.network_time(grid.times[:-1])
        assert_close(times, times.round(), 1e-9)
        assert float(grid.times[-1]) == made.horizon
        assert float((grid.times.diff() - made.horizon / steps).abs().max()) < 1.01e-3
    with pytest.raises(CtcontrolError, match="990 steps are more than the 1000 discrete times"):
        made.grid(990)
