"""Pixel models of diffusers, by a tiny one that the test builds and saves itself."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from ctcontrol import CtcontrolError, NoiseAbsorbingPolicy
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.models.images import read_images
from ctcontrol_diffusion.schedule import FlowSchedule
from ctcontrol_diffusion.score import NetworkScore
from ctcontrol_diffusion.solvers import DDIM, ExponentialVP, FlowSDE
from ctcontrol_diffusion.values import ImageResidual
from tests.ctcontrol_diffusion.tiny import tiny_pixels
from tests.runs import train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, NumPy 2


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_pixels(tmp_path_factory.mktemp("models") / "tiny")


def config(model: str, **changes: Any) -> c.Config:
    """The smallest run."""
    problem: dict[str, Any] = {"model": model, "reward": "brightness", **changes}
    return c.Config(
        problem=c.Cifar10(**problem),
        threads=1,
        iterations=2,
        rollout=c.Rollout(steps=4, batch=6),
        update=c.Update(minibatch=8, share=1.0, warmup=0),
        critic=c.Critic(minibatch=8, width=8, policy_waits=0),
        evaluation=c.Evaluation(steps=(2, 4), images=7, grid=2),
    )


def test_dry_runs_of_the_presets(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cifar10-t10", "cifar10-t10-ddpo", "cifar10-t4", "cifar10-t4-ddpo"):
        assert train(name, "--problem.model", tiny, "--dry-run") == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["config"]["problem"]["type"] == "Cifar10"
        assert shown["config"]["problem"]["model"] == tiny
        assert shown["config"]["rollout"]["steps"] == (10 if "t10" in name else 4)


@pytest.mark.parametrize("algorithm", ["ctrl", "ddpo", "pathwise"])
def test_every_algorithm_trains_it(algorithm: Any, tiny: str) -> None:
    made = build(replace(config(tiny), algorithm=algorithm))
    before = [p.detach().clone() for p in made.setting.mean.parameters()]
    first = next(made.iterations())
    assert first.updates > 0
    assert first.trajectory.final.dtype == torch.float32
    changed = [
        not torch.equal(p, q) for p, q in zip(before, made.setting.mean.parameters(), strict=True)
    ]
    assert any(changed)


def test_lora_starts_from_the_model_and_trains_nothing_else(tiny: str) -> None:
    made = build(config(tiny, trained="lora", lora_rank=2))
    score, plain = made.setting.mean, build(config(tiny)).setting.mean
    assert isinstance(score, NetworkScore)
    trained = {name for name, p in score.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    t, x = torch.full((2,), 0.4), torch.randn(2, 3, 8, 8)
    labels = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        assert torch.equal(score(t, x, labels), plain(t, x, labels))
    rows = made.setting.evaluate(score, lambda done, all: None)
    assert rows[0].numbers["kl"] == (0.0, 0.0)
    next(made.iterations())
    after = made.setting.evaluate(score, lambda done, all: None)
    assert after[0].numbers["kl"][0] > 0
    with torch.no_grad():
        assert not torch.equal(score(t, x, labels), plain(t, x, labels))


def test_training_steps_are_at_the_times_of_the_network(tiny: str) -> None:
    made = build(config(tiny))
    score = made.setting.mean
    assert isinstance(score, NetworkScore)
    times = score.schedule.network_time(made.grid.times[:-1])
    assert times.tolist() == [999.0, 754.0, 509.0, 264.0]


@pytest.mark.parametrize(
    ("sampler", "solver"),
    [("ddim", DDIM(1.0)), ("exponential", ExponentialVP(0.25))],
)
def test_samplers_by_name(sampler: Any, solver: Any, tiny: str) -> None:
    made = build(config(tiny, sampler=sampler))
    assert made.setting.solver == solver
    assert isinstance(made.policy, NoiseAbsorbingPolicy)
    assert build(config(tiny, sampler="euler")).setting.solver != solver


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": "flow-sde"}, "flow-sde is for flow-matching models.*take ddim"),
        ({"sampler": "exponential", "eta": 0.5}, "eta 0.5 says nothing to the exponential"),
        ({"sampler": "euler", "eta": 0.5}, "eta 0.5 says nothing to the euler"),
        ({"schedulers": ("flow-euler",)}, "not compatible with the model's DDPMScheduler"),
        ({"reward": "nonsense"}, "unknown reward"),
        ({"reward": "alignment"}, "needs a classifier"),
        ({"features": "json:nothing"}, "features json:nothing.*can be imported"),
        ({"features": "json:loads"}, "needs real images to compare with"),
    ],
)
def test_what_cannot_be_built(changes: dict[str, Any], message: str, tiny: str) -> None:
    with pytest.raises(CtcontrolError, match=message) as error:
        build(config(tiny, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
        DDPMScheduler(prediction_type="sample"),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
    ],
)
def test_models_of_every_prediction_train(scheduler: Any, tmp_path: Path) -> None:
    model = tiny_pixels(tmp_path / "model", scheduler)
    flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    changes = {"sampler": "flow-sde", "eta": 0.5} if flow else {}
    made = build(config(model, **changes))
    if flow:
        assert made.setting.solver == FlowSDE(0.5)
    assert next(made.iterations()).updates > 0
    rows = made.setting.evaluate(made.setting.mean, lambda done, all: None)
    assert all(np.isfinite(row.numbers["reward"][0]) for row in rows)


def test_classes_are_prompts(tmp_path: Path) -> None:
    model = tiny_pixels(tmp_path / "model", num_class_embeds=3)
    pictures = build(config(model)).setting.pictures
    assert pictures is not None
    assert pictures.prompts(torch.tensor([2, 0])) == ["2", "0"]
    assert pictures.contexts(["1", "2"]).tolist() == [1, 2]
    with pytest.raises(CtcontrolError, match=r"prompt 'cat' is nothing .* takes 0 … 2"):
        pictures.contexts(["cat"])


def test_the_unconditional_have_one_prompt(tiny: str) -> None:
    pictures = build(config(tiny)).setting.pictures
    assert pictures is not None
    assert pictures.prompts(torch.zeros(2, dtype=torch.long)) == ["unconditional"] * 2


def mean_colors(images: torch.Tensor) -> torch.Tensor:
    """Features that a user may have written."""
    return images.mean((2, 3))


def test_frechet_distances_by_pluggable_features(tiny: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "real.npz", images=rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    name = f"{__name__}:mean_colors"
    made = build(config(tiny, features=name, real=str(tmp_path / "real.npz")))
    rows = made.setting.evaluate(made.setting.mean, lambda done, all: None)
    assert all(row.numbers["frechet"][0] > 0 for row in rows)
    assert read_images(tmp_path).shape == (20, 3, 8, 8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("/nowhere/at/all", "no diffusers pipeline .*model_index.json.* in /nowhere/at/all"),
        ("nothing", "no diffusers pipeline"),
    ],
)
def test_models_that_are_not_there(model: str, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        check_config(config(model))


def test_a_hub_that_cannot_be_reached() -> None:
    made = check_config(config("nobody/nothing-at-all"))
    with pytest.raises(CtcontrolError, match=r"nobody/nothing-at-all'.*give --problem.model a"):
        build(made)


def test_models_of_another_kind(tmp_path: Path) -> None:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DCondition"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(CtcontrolError, match="holds a StableDiffusionPipeline, which does not"):
        build(config(str(tmp_path)))


@pytest.mark.parametrize(
    "content", [{"pictures": np.zeros(3)}, {"images": np.zeros((2, 4, 4, 3))}, {}]
)
def test_files_without_images(content: dict[str, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", **content)
    with pytest.raises(CtcontrolError, match=r"file\.npz"):
        read_images(tmp_path / "file.npz")
    with pytest.raises(CtcontrolError, match="no images at"):
        read_images(tmp_path / "other.npz")


@torch.no_grad()
def test_the_value_network_starts_at_zero_and_sees_each_image_alone() -> None:
    residual = ImageResidual(FlowSchedule(1.0, 0.02), 3, 2, 8)
    t, x = torch.full((4,), 0.4), torch.randn(4, 3, 8, 8)
    labels = torch.tensor([0, 1, 0, 1])
    assert torch.equal(residual(t, x, labels), torch.zeros(4))
    torch.nn.init.normal_(residual.head.weight)
    whole = residual(t, x, labels)
    torch.testing.assert_close(whole[1:2], residual(t[1:2], x[1:2], labels[1:2]))
    assert float((whole - residual(t + 0.3, x, labels)).abs().min()) > 0
    assert float((whole - residual(t, x, 1 - labels)).abs().min()) > 0
