"""Evaluation through diffusers: any scheduler that fits, and a reason where it does not."""

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
)

from ctcontrol import ControlProblem, CtcontrolError, GaussianPolicy, TerminalReward, TimeGrid
from ctcontrol import simulate as simulated
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import schedule_of
from ctcontrol_diffusion.schedulers import SCHEDULERS, sample_with, scheduler_named
from ctcontrol_diffusion.score import NetworkScore, Prediction, prediction_of
from ctcontrol_diffusion.solvers import DDIM
from tests.ctcontrol_diffusion.test_predictions import MEAN, VARIANCE, Exact
from tests.ctcontrol_diffusion.test_ratio import tiny_unet
from tests.helpers import normal, seeded

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, NumPy 2

NAMES = [name for name in SCHEDULERS if name != "flow-euler"]


def original(**changes: Any) -> DDPMScheduler:
    settings: dict[str, Any] = {"clip_sample": False, **changes}
    return DDPMScheduler(**settings)


def gaussian(scheduler: Any, prediction: Prediction | None = None) -> NetworkScore:
    """The exact network of Gaussian data, which refuses times it was not trained at."""
    kind = prediction or prediction_of(scheduler)
    return NetworkScore(Exact(kind, torch.float32), schedule_of(scheduler, 0.0), kind)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_all_lead_to_the_data(name: str, prediction: Prediction) -> None:
    base = original(prediction_type=prediction)
    if prediction == "sample" and name == "euler-ancestral":
        with pytest.raises(CtcontrolError, match=r"cannot take over the config.*prediction_type"):
            scheduler_named(name, base)
        return
    noise = normal(4000, 1, 1, 1, dtype=torch.float32)
    made = scheduler_named(name, base)
    reached = sample_with(made, gaussian(base), noise, None, 50, seeded(3))
    assert reached.dtype == torch.float32
    assert float(reached.mean()) == pytest.approx(MEAN, abs=0.05)
    # ancestral steps lack variance, by O(1/steps)
    assert float(reached.var()) == pytest.approx(VARIANCE, abs=0.1)


def test_flow_matching_leads_to_the_data() -> None:
    base = FlowMatchEulerDiscreteScheduler(shift=2.0)
    noise = normal(4000, 1, 1, 1, dtype=torch.float32)
    made = scheduler_named("flow-euler", base)
    reached = sample_with(made, gaussian(base), noise, None, 50, seeded())
    assert made.config.shift == 2.0
    assert float(reached.mean()) == pytest.approx(MEAN, abs=0.05)
    assert float(reached.var()) == pytest.approx(VARIANCE, abs=0.07)


def test_ddim_is_our_own_ode() -> None:
    """The same noise, the same network: the same images, so that both loops can be compared."""
    base, noise = original(), normal(3, 3, 8, 8, dtype=torch.float32)
    schedule = schedule_of(base, 0.0)
    score = NetworkScore(tiny_unet(), schedule)
    problem = ControlProblem(
        sde=ReverseSDE(schedule),
        reward=TerminalReward(lambda x, context: x.mean((1, 2, 3))),
        initial=lambda batch, generator: (noise, None),
        horizon=1.0,
    )
    with torch.no_grad():
        ours = simulated(
            problem,
            GaussianPolicy(score),
            TimeGrid.uniform(1.0, 10),
            3,
            generator=seeded(),
            solver=DDIM(0.0),
        ).final
    theirs = sample_with(scheduler_named("ddim", base), score, noise, None, 10, seeded())
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_the_original_whether_written_down_or_defaults(name: str) -> None:
    """`HeunDiscreteScheduler.from_config(DDPMScheduler().config)` has other noise levels."""
    for base in (original(), original(beta_start=2e-4, beta_end=0.015, clip_sample=True)):
        made = scheduler_named(name, base)
        assert torch.equal(made.alphas_cumprod, base.alphas_cumprod)
        assert made.config["timestep_spacing"] == "trailing"
        assert (
            made.config.get("clip_sample", base.config["clip_sample"]) == base.config["clip_sample"]
        )
    leaky: Any = HeunDiscreteScheduler.from_config(original().config)
    assert not torch.allclose(leaky.alphas_cumprod, original().alphas_cumprod, atol=1e-3)


def test_all_start_from_pure_noise() -> None:
    for name in NAMES:
        made = scheduler_named(name, original(timestep_spacing="leading"))
        made.set_timesteps(10)
        assert float(made.timesteps[0]) == 999


def test_a_swapped_scheduler_does_not_lend_its_settings() -> None:
    base = original()
    sde = scheduler_named("dpm++2m-sde", base)
    assert sde.config["algorithm_type"] == "sde-dpmsolver++"
    assert scheduler_named("dpm++2m", base).config["algorithm_type"] == "dpmsolver++"
    assert "algorithm_type" not in dict(base.config)


def test_noise_comes_from_the_generator() -> None:
    base, noise = original(), normal(2, 1, 2, 2, dtype=torch.float32)
    for name in ("ddpm", "dpm++2m-sde", "euler-ancestral", "ddim", "euler", "unipc", "dpm++2m"):
        made, score = scheduler_named(name, base), gaussian(base)
        first, again, other = (
            sample_with(made, score, noise, None, 5, seeded(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        ode = name in ("ddim", "euler", "unipc", "dpm++2m")
        assert torch.equal(first, other) == ode, name


@pytest.mark.parametrize(
    ("name", "base", "reason"),
    [
        ("flow-euler", original(), "is not compatible with the model's DDPMScheduler.*ddim, ddpm"),
        ("ddim", FlowMatchEulerDiscreteScheduler(), "not compatible.*take one of flow-euler"),
        ("EDMEulerScheduler", original(), "its time is not that of the model's network"),
        ("IPNDMScheduler", original(), "IPNDMScheduler is not compatible"),
        ("UNet2DModel", original(), "unknown scheduler 'UNet2DModel'; there are ddim"),
        ("nonsense", original(), "unknown scheduler 'nonsense'"),
        (
            "heun",
            DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
            "its noise levels differ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(name: str, base: Any, reason: str) -> None:
    with pytest.raises(CtcontrolError, match=reason) as error:
        scheduler_named(name, base)
    assert "\n" not in str(error.value)


def test_zero_terminal_snr_is_possible_where_the_scheduler_knows_it() -> None:
    base = DDIMScheduler(
        rescale_betas_zero_snr=True, prediction_type="v_prediction", clip_sample=False
    )
    noise = normal(4000, 1, 1, 1, dtype=torch.float32)

    class Exactly(Exact):
        def levels(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            kept = base.alphas_cumprod.double()[time.long()]
            return kept.sqrt(), (1 - kept).sqrt()

    network = Exactly("v_prediction", torch.float32)
    score = NetworkScore(network, schedule_of(base, 0.0), "v_prediction")
    for name in ("ddim", "ddpm", "euler"):
        made = scheduler_named(name, base)
        reached = sample_with(made, score, noise, None, 50, seeded())
        assert float(reached.mean()) == pytest.approx(MEAN, abs=0.05)
        assert float(reached.var()) == pytest.approx(VARIANCE, abs=0.1)


def test_too_many_steps() -> None:
    base = original()
    with pytest.raises(CtcontrolError, match="DDPMScheduler cannot do 2000 steps"):
        sample_with(
            scheduler_named("ddpm", base), gaussian(base), normal(1, 1, 2, 2), None, 2000, seeded()
        )
    with pytest.raises(CtcontrolError, match="steps must be"):
        sample_with(scheduler_named("ddpm", base), gaussian(base), normal(1), None, 0, seeded())


def test_the_class_of_the_model_itself_is_always_possible() -> None:
    base = DPMSolverMultistepScheduler(use_karras_sigmas=True)
    made = scheduler_named("DPMSolverMultistepScheduler", base)
    assert made.config["use_karras_sigmas"] is True
