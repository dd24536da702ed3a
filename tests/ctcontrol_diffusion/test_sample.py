"""Drawing images from a run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ctcontrol import GaussianPolicy, TimeGrid, simulate
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.presets import PRESETS
from ctcontrol_diffusion.run.album import draw
from ctcontrol_diffusion.run.directory import open_run
from ctcontrol_diffusion.run.draw import checkpoint_path
from ctcontrol_diffusion.sample import main
from ctcontrol_diffusion.solvers import DDIM
from tests.runs import DIGITS, LQ, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert train(*DIGITS, "--update.learning-rate", "1e-2", "--run-dir", folder) == 0
    return folder


def sample(*words: str | Path) -> int:
    return main([str(word) for word in words])


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_draws_from_a_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid.png"
    words = ["--prompts", "3,7", "--n", "9", "--steps", "5", "--solver", "ode", "--out", out]
    assert sample(run, *words) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"9 images of 3, 7 from {run} after iteration 3, 5 steps (ODE): reward ")
    assert said.count("\n") == 1
    first = pixels(out)
    assert first.shape[2] == 3
    assert sample(run, *words) == 0
    assert np.array_equal(pixels(out), first)
    assert sample(run, *words, "--seed", "1") == 0
    assert not np.array_equal(pixels(out), first)


def test_checkpoints_and_the_base_differ(run: Path, tmp_path: Path) -> None:
    found: dict[str, bytes] = {}
    for name in ("last", "best", "2", "3", "base"):
        which = ["--base"] if name == "base" else ["--checkpoint", name]
        assert sample(run, *which, "--n", "10", "--out", tmp_path / f"{name}.png") == 0
        found[name] = (tmp_path / f"{name}.png").read_bytes()
    assert found["last"] == found["3"]
    assert len({found["base"], found["2"], found["3"]}) == 3


def test_the_best_is_the_one_that_metrics_say(run: Path) -> None:
    directory = open_run(run)
    best = directory.keeper.best(directory.metrics.read())
    assert best is not None
    assert checkpoint_path(directory, "best") == run / "checkpoints" / f"{best:06d}"


def test_the_usual_prompts_are_all_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(run, "--n", "10", "--out", run / "usual.png") == 0
    assert "10 images of 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 from" in capsys.readouterr().out


def test_each_image_belongs_to_its_prompt_and_each_noise_to_its_image() -> None:
    """The conditioned draw is the plain simulation of the same noise with other contexts."""
    experiment = build(PRESETS["digits"])
    setting = experiment.setting
    problem, labels = setting.problem, torch.tensor([3, 7, 7])
    drawn = draw(
        problem,
        setting.mean,
        DDIM(0.0),
        labels,
        3,
        steps=4,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(drawn.context, labels)
    noise, _ = problem.initial(3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.states[0], noise)
    from dataclasses import replace

    given = replace(problem, initial=lambda *_: (noise, labels), regularizer=None)
    plain = simulate(
        given,
        GaussianPolicy(setting.mean),
        TimeGrid.uniform(problem.horizon, 4),
        3,
        generator=torch.Generator().manual_seed(1),
        solver=DDIM(0.0),
    )
    assert torch.equal(plain.final, drawn.final)  # no noise is left to differ in the ODE


BAD = {
    "": "which run? give its folder first",
    "nowhere": "nowhere does not exist",
    "RUN --prompts 3,x": "prompt 'x' is not a digit",
    "RUN --prompts 3,,7": "has an empty prompt",
    "RUN --n 0": "--n must be a whole number >= 1, got 0",
    "RUN --n 3": "--n 3 is too few for 10 prompts",
    "RUN --steps 0": "--steps must be a whole number >= 1, got 0",
    "RUN --steps": "--steps takes a whole number, but nothing follows it",
    "RUN --seed -1": "--seed must be a whole number >= 0, got -1",
    "RUN --solver euler": "--solver takes one of ode, sde, got 'euler'",
    "RUN --out grid.jpg": "--out must end in .png, got grid.jpg",
    "RUN --out nowhere/grid.png": "there is no folder nowhere",
    "RUN --checkpoint 99": "no checkpoint '99'; there are last, best and 1, 2, 3",
    "RUN --promts 3": "there is no --promts; did you mean '--prompts'?",
    "RUN 3,7": "'3,7' stands where a flag was expected",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_sentence(
    words: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words.replace("RUN", str(run)).split()) == 2
    said = capsys.readouterr()
    assert BAD[words] in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_not_about_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(*LQ, "--run-dir", tmp_path / "run") == 0
    assert sample(tmp_path / "run", "--out", tmp_path / "grid.png") == 2
    assert "is not about images, so there is nothing to draw" in capsys.readouterr().err


def test_damaged_and_missing_checkpoints(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "checkpoints" / "000003" / "policy.safetensors").write_bytes(b"")
    assert sample(copy, "--out", tmp_path / "grid.png") == 2
    assert "is damaged: the checksum of policy.safetensors differs" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints")
    assert sample(copy, "--out", tmp_path / "grid.png") == 2
    assert "has no checkpoint yet; give --base" in capsys.readouterr().err


def test_a_run_on_other_pretrained_weights_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints hold what was trained; on other weights they would make faded images."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    about = json.loads((copy / "config.json").read_text())
    about["initial_weights"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(about))
    assert sample(copy, "--out", tmp_path / "grid.png") == 2
    assert "the pretrained weights are not those" in capsys.readouterr().err


def test_a_full_disk_is_a_failure(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ctcontrol_diffusion.run import draw as drawing

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(drawing, "write_atomically", full)
    assert sample(run, "--n", "10", "--out", tmp_path / "grid.png") == 3
    assert "No space left on device" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "--prompts" in capsys.readouterr().out
