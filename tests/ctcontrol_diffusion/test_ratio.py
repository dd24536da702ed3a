"""Before the first update every likelihood ratio is 1, whatever the sampler and the network."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    UNet2DModel,
)
from torch import Tensor

from ctcontrol import (
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    NoiseAbsorbingPolicy,
    PathKL,
    Solver,
    TerminalReward,
    TimeGrid,
    like,
    simulate,
)
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import FlowSchedule, NoiseSchedule, Schedule
from ctcontrol_diffusion.score import NetworkScore, Prediction
from ctcontrol_diffusion.solvers import DDIM, ExponentialNoiseVP, ExponentialVP, FlowSDE
from tests.helpers import normal, seeded

SHAPE = (3, 8, 8)
SAMPLERS: list[Solver] = [
    DDIM(1.0),
    DDIM(0.5),
    EulerMaruyama(),
    ExponentialVP(),
    ExponentialVP(0.25),
    ExponentialNoiseVP(),
]
FLOW_SAMPLERS: list[Solver] = [FlowSDE(0.5), FlowSDE(1.0), DDIM(1.0), ExponentialVP(0.25)]
CASES: list[tuple[Prediction, Solver]] = [
    (prediction, solver)
    for prediction in ("epsilon", "v_prediction", "sample", "flow_prediction")
    for solver in (FLOW_SAMPLERS if prediction == "flow_prediction" else SAMPLERS)
]


def schedule(prediction: Prediction, floor: float = 0.02) -> Schedule:
    if prediction == "flow_prediction":
        return FlowSchedule(3.0, floor)
    return NoiseSchedule.from_diffusers(DDPMScheduler(), floor)


def tiny_unet() -> UNet2DModel:
    """The smallest with attention, and an output that is not nearly 0."""
    made = UNet2DModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )
    return made.eval()


def problem(score: NetworkScore) -> ControlProblem:
    def initial(batch: int, generator: torch.Generator) -> tuple[Tensor, None]:
        return torch.randn(batch, *SHAPE, generator=generator), None

    return ControlProblem(
        sde=ReverseSDE(score.schedule),
        reward=TerminalReward(lambda x, context: x.mean((1, 2, 3))),
        initial=initial,
        horizon=score.schedule.horizon,
        regularizer=PathKL(GaussianPolicy(score), 0.1),
    )


@pytest.mark.parametrize(("prediction", "solver"), CASES, ids=lambda value: str(value))
@pytest.mark.parametrize("steps", [4, 10])
@torch.no_grad()
def test_ratios_before_the_first_update(prediction: Prediction, solver: Solver, steps: int) -> None:
    """Mean log-probability ratio in float32, in batches of another size than the rollout's.

    What is left is the rounding of the network over the std of the action: less noise, more of it.
    """
    score = NetworkScore(tiny_unet(), schedule(prediction), prediction)
    task, grid = problem(score), score.schedule.grid(steps)
    assert isinstance(task.sde, ReverseSDE)
    policy = NoiseAbsorbingPolicy(score, task.sde, solver, grid)
    path = simulate(task, policy, grid, 6, generator=seeded(1), solver=solver)
    assert bool(path.final.isfinite().all())
    assert path.final.dtype == torch.float32
    assert float(path.divergence().abs().max()) < 1e-6
    for k in range(steps):
        t0 = grid.times[k].expand(6).float()
        acted = policy.dist(t0, path.states[k], None)
        for rows in (slice(0, 1), slice(1, 3), slice(3, 6)):
            again = policy.dist(t0[rows], path.states[k][rows], None)
            old = type(acted)(acted.mean[rows], acted.std[rows])
            ratio = again.log_ratio(old, path.actions[k][rows]) / path.final[0].numel()
            assert float(ratio.abs().max()) < 1e-6


@pytest.mark.parametrize(("prediction", "solver"), CASES, ids=lambda value: str(value))
def test_kl_of_a_chain_is_the_sum_of_its_gaussian_steps(
    prediction: Prediction, solver: Solver
) -> None:
    made = schedule(prediction)
    sde, grid = ReverseSDE(made), made.grid(5)
    for k in range(5):
        t0, t1 = grid.times[k].expand(2), grid.times[k + 1].expand(2)
        x, a, b = (normal(2, 3, seed=i) for i in range(3))
        gap = solver.mean(sde, t0, t1, x, a, None) - solver.mean(sde, t0, t1, x, b, None)
        std = solver.noise(sde, t0, t1, x, a, like((t1 - t0).sqrt(), x) * torch.ones_like(x))
        expected = 0.5 * (gap / std).square().sum(1)
        kl = solver.step_kl(sde, t0, t1, x, a, b, None)
        torch.testing.assert_close(kl, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("solver", [DDIM(1.0), ExponentialVP(), ExponentialVP(0.5)])
def test_a_last_step_without_noise_is_refused_and_said_how_to_avoid(solver: Solver) -> None:
    score = NetworkScore(tiny_unet(), schedule("epsilon", floor=0.0))
    sde, grid = ReverseSDE(score.schedule), TimeGrid.uniform(1.0, 4)
    if isinstance(solver, ExponentialVP) and solver.data_variance > 0:
        assert float(solver.absorbing_std(sde, grid.times[-2:-1], grid.times[-1:])) > 0
        return
    with pytest.raises(CtcontrolError, match=r"a step without noise on this grid.*end the grid"):
        NoiseAbsorbingPolicy(score, sde, solver, grid)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers on NumPy 2
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_the_ancestral_step_is_ddpm_and_euler_ancestral(steps: int) -> None:
    """Mean and std of one step of `DDIM(1)`, and of `DDIM(0)` for Euler, at every timestep.

    Sigma-type schedulers work on x/α, so that they are handed that and give back x'/α'.
    """
    settings: dict[str, Any] = {"timestep_spacing": "trailing"}
    ancestral = EulerAncestralDiscreteScheduler(**settings)
    euler = EulerDiscreteScheduler(**settings)
    ddpm = DDPMScheduler(clip_sample=False, **settings)
    for made in (ddpm, ancestral, euler):
        made.set_timesteps(steps)
    sde = ReverseSDE(NoiseSchedule.from_diffusers(ddpm, 0.0))
    times = [*((ddpm.timesteps.double() + 1) / 1000).tolist(), 0.0]
    checked = range(steps) if steps < 1000 else range(0, steps, 97)
    for k in checked:
        t0, t1 = (1 - torch.tensor([s], dtype=torch.float64) for s in times[k : k + 2])
        x, epsilon = normal(1, 3, 4, 4, seed=k), normal(1, 3, 4, 4, seed=k + 5000)
        a = -epsilon / like(sde.schedule.sigma(t0), x)
        alpha = [like(sde.schedule.alpha(t), x) for t in (t0, t1)]
        unit = like((t1 - t0).sqrt(), x) * torch.ones_like(x)
        mean, std = (
            DDIM(1.0).mean(sde, t0, t1, x, a, None),
            DDIM(1.0).noise(sde, t0, t1, x, a, unit),
        )
        time = ddpm.timesteps[k]
        noise = torch.randn(x.shape, generator=seeded(k), dtype=x.dtype)
        found = ddpm.step(epsilon, int(time), x, generator=seeded(k), return_dict=False)[0]
        torch.testing.assert_close(found, mean + std * noise, rtol=1e-5, atol=1e-5)
        for scheduler, solver in ((ancestral, DDIM(1.0)), (euler, DDIM(0.0))):
            scheduler._step_index = k
            scheduler.scale_model_input(x, scheduler.timesteps[k])
            found = scheduler.step(
                epsilon,
                scheduler.timesteps[k],
                x / alpha[0],
                generator=seeded(k),
                return_dict=False,
            )[0]
            step = solver.mean(sde, t0, t1, x, a, None)
            step = step + solver.noise(sde, t0, t1, x, a, unit) * noise
            torch.testing.assert_close(
                found * alpha[1], step, rtol=1e-5, atol=1e-5, check_dtype=False
            )
