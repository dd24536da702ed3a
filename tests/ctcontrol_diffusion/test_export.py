"""Runs written for other programs: what those load is what was trained, or nothing is written."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import load_file

from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.export import main
from ctcontrol_diffusion.models.digits import load_denoiser
from ctcontrol_diffusion.publish import _write
from ctcontrol_diffusion.run.checkpoint import load_policy
from ctcontrol_diffusion.run.directory import open_run
from tests.ctcontrol_diffusion.adapted import answer, pipeline
from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd, tiny_sdxl
from tests.runs import DIGITS, train

SMALL = (
    "--device cpu --threads 1 --iterations 2 --checkpoint-every 1 --rollout.steps 3 "
    "--update.minibatch 6 --update.warmup 0 --algorithm ddpo --evaluation.steps 2 "
    "--evaluation.images 3 --evaluation.grid 1 --update.learning-rate 1e-2 "
    "--problem.reward brightness"
)
PROMPTED = f"sd15-jpeg {SMALL} --rollout.batch 4 --problem.images-per-prompt 2"
PIXELS = f"cifar10-t4 {SMALL} --rollout.batch 4"

RUNS: dict[str, tuple[Callable[[Path], str], str]] = {
    "sd": (tiny_sd, f"{PROMPTED} --problem.lora-alpha 10 --problem.precision float32"),
    "v": (lambda folder: tiny_sd(folder, "v_prediction"), f"{PROMPTED} --problem.trained all"),
    "sdxl": (tiny_sdxl, f"{PROMPTED} --problem.precision bfloat16"),
    "pixels": (tiny_pixels, f"{PIXELS} --problem.trained all"),
    "pixels-lora": (tiny_pixels, f"{PIXELS} --problem.trained lora"),
}
LORA = ("sd", "sdxl")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Short runs by their names, each made once."""
    folder = tmp_path_factory.mktemp("runs")

    def made(name: str) -> Path:
        if not (folder / name).exists():
            make, words = RUNS[name]
            model = make(folder / f"{name}-model")
            status = train(*words.split(), "--problem.model", model, "--run-dir", folder / name)
            assert status == 0
        return folder / name

    return made


def trained(folder: Path, checkpoint: int = 2) -> Any:
    """The network of a run, in float32."""
    directory = open_run(folder)
    experiment = build(check_config(directory.config))
    load_policy(directory.keeper.path(checkpoint), experiment)
    network: Any = experiment.setting.mean.get_submodule("network")
    return network.float().eval()


def export(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.mark.parametrize("name", ["sd", "v", "sdxl"])
def test_prompted_models(
    name: str,
    run: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert export(run(name), "--out", out) == 0
    said = capsys.readouterr().out
    assert re.search(
        r"after iteration 2: loaded afresh, it draws the same images .* no pixel", said
    )
    network, model = trained(run(name)), open_run(run(name)).config.problem.model  # pyright: ignore[reportAttributeAccessIssue]  # it is one with a model
    if name in LORA:
        loaded = pipeline(model)
        if name == "sdxl":  # the run kept the pretrained weights in half precision
            loaded.to(torch.bfloat16).to(torch.float32)
        base = answer(loaded.unet)
        loaded.load_lora_weights(out)
    else:
        base, loaded = answer(pipeline(model).unet), pipeline(out)
    difference, effect = (
        float((said - answer(network)).abs().max()) for said in (answer(loaded.unet), base)
    )
    assert effect > 1e-3
    assert difference < 1e-3 * effect
    card = (out / "README.md").read_text()
    assert ("load_lora_weights" in card) == (name in LORA)
    assert "python -m ctcontrol_diffusion.train sd15-jpeg" in card
    assert re.search(r"\| 2 \| 8 \| 0\.\d+ ± 0\.\d+ \| \d", card), card
    facts = json.loads((out / "training.json").read_text())
    assert facts["iterations"] == 2
    assert facts["config"]["problem"]["reward"] == "brightness"


@pytest.mark.parametrize("name", ["pixels", "pixels-lora"])
def test_pixel_models(name: str, run: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export(run(name), "--out", out, "--checkpoint", "1") == 0
    network = trained(run(name), checkpoint=1)
    again = UNet2DModel.from_pretrained(out, subfolder="unet")
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(again(x, 7).sample, network(x, 7).sample, rtol=1e-5, atol=1e-5)
    assert pipeline(out)(num_inference_steps=2, output_type="np").images.shape == (1, 8, 8, 3)


def test_digits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The denoiser is another run's start, bit for bit."""
    folder, out = tmp_path / "run", tmp_path / "out"
    assert train(*DIGITS, "--run-dir", folder) == 0
    assert export(folder, "--out", out, "--checkpoint", "best") == 0
    assert "no pixel differs, while" in capsys.readouterr().out
    denoiser = out / "denoiser.safetensors"
    best = open_run(folder).keeper.best(open_run(folder).metrics.read())
    assert best is not None
    network = trained(folder, best)
    for name, value in load_denoiser(denoiser).state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    words = [*DIGITS, "--problem.denoiser", str(denoiser), "--dry-run"]
    assert train(*words) == 0


def test_what_is_not_what_was_trained_is_not_written(
    run: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """alpha forgotten, as it is by readers that do not know it."""
    write = _write._write

    def forgetful(factors: Any, *rest: Any) -> None:
        write({name: factor.scaled(4 / 10) for name, factor in factors.items()}, *rest)

    monkeypatch.setattr(_write, "_write", forgetful)
    assert export(run("sd"), "--out", tmp_path / "out") == 3
    assert "was loaded with an error of 6.0e-01; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status"), [(OSError(28, "No space left on device"), 3), (KeyboardInterrupt(), 130)]
)
def test_a_full_disk_and_ctrl_c_leave_nothing(
    error: BaseException,
    status: int,
    run: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ctcontrol_diffusion.run import export as module

    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "write_atomically", stop)
    assert export(run("pixels"), "--out", tmp_path / "out") == status
    assert list(tmp_path.iterdir()) == []


def test_no_weights_of_rewards_are_asked_for(run: Callable[[str], Path], tmp_path: Path) -> None:
    """The reward's server, files and features may be gone."""
    folder = tmp_path / "run"
    folder.symlink_to(run("pixels"))
    about = json.loads((folder / "config.json").read_text())
    about["config"]["problem"] |= {"reward": "http://localhost:9", "real": "/gone.npz"}
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "checkpoints").symlink_to(folder / "checkpoints")
    (copy / "config.json").write_text(json.dumps(about))
    assert export(copy, "--out", tmp_path / "out", "--device", "cpu") == 0
    assert "http://localhost:9" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which run"),
        (["{run}"], "where to"),
        (["{run}", "--out", "{run}"], "exists; give a folder that does not"),
        (["{run}", "--out", "{run}/a/b"], "there is no folder"),
        (["{run}", "--out", "{run}/new", "--checkpoint", "7"], "no checkpoint '7'; there are last"),
        (["{run}/nothing", "--out", "{run}/new"], "does not exist"),
        (["{run}", "--out", "{run}/new", "--device", "tpu"], "device 'tpu' cannot be used"),
    ],
)
def test_bad_input(
    words: list[str],
    message: str,
    run: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert export(*(word.format(run=run("pixels")) for word in words)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (run("pixels") / "new").exists()


def test_a_regulator_has_no_other_program(whole: Path, tmp_path: Path) -> None:
    assert export(whole, "--out", tmp_path / "out") == 2


def test_written_adapters_hold_tensors_alone(run: Callable[[str], Path], tmp_path: Path) -> None:
    assert export(run("sd"), "--out", tmp_path / "out") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"pytorch_lora_weights.safetensors", "README.md", "training.json"}
    tensors = load_file(tmp_path / "out" / "pytorch_lora_weights.safetensors")
    assert all(key.endswith((".lora_A.weight", ".lora_B.weight")) for key in tensors)
