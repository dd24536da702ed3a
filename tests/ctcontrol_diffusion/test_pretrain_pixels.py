"""`pretrain cifar10` on images that the test makes: files, resuming, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.pretrain import _networks, pixels
from ctcontrol_diffusion.pretrain.__main__ import main
from ctcontrol_diffusion.pretrain._fit import Fit, FitOptions
from ctcontrol_diffusion.pretrain._networks import new_network, new_scheduler
from ctcontrol_diffusion.pretrain._pixel_config import PixelPretraining
from ctcontrol_diffusion.pretrain._pixel_loss import pixel_loss
from tests.started import module, started

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, NumPy 2

TINY: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
WEIGHTS = "model/unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_networks.SIZES, "small", TINY)
    monkeypatch.setattr(pixels, "DRAWN", 8)
    monkeypatch.setattr(pixels, "DRAWING_STEPS", 2)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 2, (40, 1, 1, 1)) * 150
    noisy = bright + rng.integers(0, 100, (40, 8, 8, 3))
    np.savez(tmp_path / "images.npz", images=noisy.astype(np.uint8))
    return tmp_path / "images.npz"


def config(images: Path, out: Path, **changes: Any) -> PixelPretraining:
    made = PixelPretraining(
        images=images, out=out, iterations=12, batch_size=6, checkpoint_every=5, dropout=0.1
    )
    return replace(made, **changes)


def words(made: PixelPretraining) -> list[str]:
    return made.command().split()[3:]


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / WEIGHTS)


class Killed(BaseException):
    """The process is gone: nothing is saved any more."""


def killed_at(monkeypatch: pytest.MonkeyPatch, iteration: int) -> None:
    steps = Fit.steps

    def some(self: Fit) -> Any:
        for step in steps(self):
            yield step
            if step.iteration == iteration:
                raise Killed

    monkeypatch.setattr(Fit, "steps", some)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_it_writes_a_pipeline_that_the_presets_fine_tune(
    prediction: Any, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    before = torch.get_rng_state()
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or network)
    made = config(images, out, prediction=prediction, betas="cosine", flips=False)
    made = replace(made, precision="bfloat16", compile=True)
    assert main(words(made)) == 0
    assert len(compiled) == 1
    assert torch.equal(torch.get_rng_state(), before)
    model = out / "model"
    pipeline: Any = DDPMPipeline.from_pretrained(model)
    assert pipeline.scheduler.config["prediction_type"] == prediction
    record = json.loads((model / "training.json").read_text())
    card = (model / "README.md").read_text()
    assert record["command"] == made.command()
    assert made.command() in card
    assert f"{record['parameters']:,}" in card
    assert "flips" in made.command()
    assert (model / "samples.png").stat().st_size > 0
    experiment = build(
        c.Config(
            problem=c.Cifar10(model=str(model), reward="brightness"),
            rollout=c.Rollout(steps=3, batch=4),
            update=c.Update(minibatch=6, share=1.0),
            critic=c.Critic(minibatch=6, width=8),
        )
    )
    assert next(experiment.iterations()).trajectory.final.shape == (4, 3, 8, 8)


def test_it_learns(images: Path, tmp_path: Path) -> None:
    """Two brightnesses far apart: the loss falls well below that of knowing nothing."""
    out = tmp_path / "out"
    made = config(images, out, iterations=200, batch_size=16, dropout=0.0, learning_rate=5e-3)
    assert main(words(made)) == 0
    assert json.loads((out / "model/training.json").read_text())["loss"] < 0.3


@pytest.mark.parametrize("iteration", [3, 5, 9])
def test_killed_and_continued_is_the_same_to_the_last_bit(
    iteration: int, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(words(config(images, whole))) == 0
    with monkeypatch.context() as patch:
        killed_at(patch, iteration)
        with pytest.raises(Killed):
            main(words(config(images, parts)))
    resumed = ["cifar10", "--resume", str(parts)]
    if iteration < 5:  # before the first checkpoint there is nothing to continue
        assert main(resumed) == 2
        assert main(words(config(images, parts))) == 0
    else:
        assert main(words(config(images, parts))) == 2
        assert main(resumed) == 0
    expected, found = weights(whole), weights(parts)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert main(resumed) == 0  # finished already


def test_an_interrupt_saves_and_can_be_continued(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = config(images, out, iterations=100_000)
    _, _, name, *told = made.command().split()
    with started(module(name), *told) as begun:
        begun.wait_for((out / "checkpoint.safetensors").exists)
        begun.interrupt()
        done = begun.ended()
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert f"--resume {out}" in done.stderr
    assert not (out / "model").exists()
    assert not [path for path in out.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "there are no images to train on; give --images"),
        ("--images nowhere.npz", "there are no images at nowhere.npz"),
        ("--images {images} --iterations 0", "iterations must be a whole number"),
        ("--images {images} --dropout 1", "dropout must lie in [0, 1), got 1.0"),
        ("--images {images} --average-decay 1", "average_decay must lie in [0, 1), got 1.0"),
        ("--images {images} --learning-rate nan", "learning_rate must be a finite number"),
        ("--images {images} --seed -1", "seed must lie in"),
        ("--images {images} --network medium", "--network takes one of small, ddpm-cifar10-32"),
        ("--images {images} --device cuda:9", "device 'cuda:9' cannot be used"),
        ("--images {odd}", "the images are 7 × 8, but the network small needs sides"),
        ("--images {images} --out {images}/x", "give another --out"),
        ("--resume {nothing}", "holds no pretraining to continue"),
        ("--resume {nothing} --seed 1", "--resume takes a folder and nothing else"),
        ("--imags {images}", "did you mean '--images'?"),
    ],
)
def test_bad_input_is_one_sentence(
    flags: str, said: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "odd.npz", images=np.zeros((3, 7, 8, 3), np.uint8))
    out = tmp_path / "out"
    given = flags.format(images=images, odd=tmp_path / "odd.npz", nothing=tmp_path / "nothing")
    extra = [] if "--out" in given or "--resume" in given else ["--out", str(out)]
    assert main(["cifar10", *given.split(), *extra]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not out.exists()


def test_other_images_and_damage_are_noticed(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        killed_at(patch, 7)
        with pytest.raises(Killed):
            main(words(config(images, out)))
    console = Console(quiet=True)
    content = np.load(images)["images"]
    np.savez(images, images=content[::-1])
    with pytest.raises(CtcontrolError, match="are not those this pretraining began with"):
        pixels.resume(out, console)
    np.savez(images, images=content)
    checkpoint = out / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    for damaged in (whole[:-100], b"", whole.replace(b'"iteration', b'"iteratio_')):
        checkpoint.write_bytes(damaged)
        with pytest.raises(CtcontrolError, match=r"cannot be used \(.*\); start anew"):
            pixels.resume(out, console)


def test_a_diverging_run_stops_with_a_sentence(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = config(images, tmp_path / "out", learning_rate=1e30)
    assert main(words(made)) == 3
    assert "lower the learning rate" in capsys.readouterr().err


def test_the_published_architecture() -> None:
    network = new_network("ddpm-cifar10-32", (3, 32, 32), dropout=0.1, seed=0)
    assert sum(p.numel() for p in network.parameters()) == 35_746_307


class Zero:
    """Predicts nothing."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, x: Tensor, k: Tensor) -> Any:
        self.inputs.append(x)
        return type("Output", (), {"sample": torch.zeros_like(x)})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_of_knowing_nothing(prediction: Any) -> None:
    """E ε² = 1 and E v² = E ᾱ + E (1 − ᾱ) x², here of images that are x = −1/2 everywhere."""
    scheduler: DDPMScheduler = new_scheduler("cosine", prediction)
    loss = pixel_loss(
        Zero(),
        scheduler,
        torch.full((2, 1, 8, 8), 64, dtype=torch.uint8),
        batch_size=100,
        flips=False,
        bfloat16=False,
        generator=torch.Generator().manual_seed(0),
    )
    kept = scheduler.alphas_cumprod.mean().item()
    known = prediction == "epsilon"
    expected = 1.0 if known else kept + (1 - kept) * (64 / 127.5 - 1) ** 2
    values = torch.stack([loss() for _ in range(200)])
    assert abs(values.mean().item() - expected) < 4.5 * values.std().item() / 200**0.5


def test_flips_mirror_half_of_the_images() -> None:
    ramp = torch.arange(0, 256, 32, dtype=torch.uint8).expand(1, 1, 8, 8)
    scheduler = new_scheduler("linear", "epsilon")
    scheduler.alphas_cumprod = torch.ones(1000)  # nothing is noised
    for flips, low, high in ((False, 0, 0), (True, 150, 250)):
        seen = Zero()
        pixel_loss(
            seen,
            scheduler,
            ramp,
            batch_size=400,
            flips=flips,
            bfloat16=True,
            generator=torch.Generator().manual_seed(0),
        )()
        mirrored = (seen.inputs[0][:, 0, 0, 0] > 0).sum().item()
        assert low <= mirrored <= high


def test_a_fit_takes_up_only_its_own_state() -> None:
    options = FitOptions(3, 0.1, 0.0, 0.9)
    one, other = (Fit(torch.nn.Linear(n, 1), lambda: torch.zeros(()), options) for n in (1, 2))
    with pytest.raises(CtcontrolError, match="weight is"):
        other.restore(*one.state())
