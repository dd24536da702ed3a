"""Whole runs: what they leave behind, what they say, and how they fail."""

import io
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor

from ctcontrol import CtcontrolError, ShapeError
from ctcontrol_diffusion._console import Output
from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.run.journal import Journal
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.progress import Bars, Lines, voice_for
from ctcontrol_diffusion.run.wording import clock, pair, plain
from tests.runs import DIGITS, LQ, checkpoints, evaluation, records, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small run and what it said."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", said := io.StringIO())
        assert train(*DIGITS, "--run-dir", folder) == 0
    return folder, said.getvalue()


def test_a_run_leaves_everything_behind(digits: tuple[Path, str]) -> None:
    folder, _ = digits
    names = {path.name for path in folder.iterdir()} - {".lock"}
    assert names == {
        *("config.json", "metrics.jsonl", "evaluation.json", "report.html"),
        *("checkpoints", "samples", "tensorboard"),
    }
    about = json.loads((folder / "config.json").read_text())
    assert about["preset"] == "digits"
    assert about["threads"] == 1
    assert about["command"].startswith("python -m ctcontrol_diffusion.train digits ")
    assert {"torch", "python", "diffusers"} <= set(about["versions"])
    assert [name for name in checkpoints(folder) if not name.isdecimal()] == []
    assert list(folder.rglob("*.tmp")) == []


def test_every_iteration_is_one_object(digits: tuple[Path, str]) -> None:
    folder, _ = digits
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1, 2]
    assert [line["images"] for line in lines] == [12, 24, 36]
    for line in lines:
        assert set(line["timing"]) == {"seconds", "elapsed", "images_per_second"}
        for name in ("returns", "reward", "divergence"):
            assert set(line[name]) == {"mean", "stderr"}
        for name in ("clip_fraction", "log_ratio", "policy_loss", "gradient_norm", "value_loss"):
            assert isinstance(line[name], float)
        assert line["explained_variance"] <= 1
        gap = line["reward"]["mean"] - line["returns"]["mean"]
        assert gap == pytest.approx(line["divergence"]["mean"], abs=1e-4)  # kl_weight is 1
    assert lines[0]["divergence"]["mean"] == pytest.approx(0, abs=1e-6)
    assert lines[2]["divergence"]["mean"] > 1e-4


def test_before_and_after_are_measured_alike(digits: tuple[Path, str]) -> None:
    found = evaluation(digits[0])
    assert found["facts"]["numbers"]["ideal_kl"]["stderr"] > 0
    labels = [[row["labels"] for row in found[side]] for side in ("before", "after")]
    assert labels[0] == labels[1]
    assert len(labels[0]) == 4  # {SDE, ODE} × two step counts
    rewards = [[row["numbers"]["reward"]["value"] for row in found[s]] for s in ("before", "after")]
    assert rewards[0] != rewards[1]


def test_pictures_show_before_and_after_on_the_same_noise(digits: tuple[Path, str]) -> None:
    samples = digits[0] / "samples"
    assert sorted(p.name for p in samples.glob("*.png")) == [
        "000001.png",
        "000002.png",
        "000003.png",
    ]
    index = json.loads((samples / "tiles" / "index.json").read_text())
    assert index == {"prompts": [str(k) for k in range(10)], "shape": [10, 3, 8, 8, 1]}
    for n in range(4):
        with Image.open(samples / "tiles" / f"{n:06d}.png") as image:
            assert image.size == (24, 80)
    with Image.open(samples / "000003.png") as image:
        assert image.width > 2 * 3 * 48
    first, last = ((samples / "tiles" / f"{n:06d}.png").read_bytes() for n in (0, 3))
    assert first != last


def test_lines_for_files_and_pipes(digits: tuple[Path, str]) -> None:
    folder, said = digits
    lines = said.splitlines()
    assert lines[0] == f"run: {folder}"
    number = r"−?\d+(\.\d+)?( ± \d+(\.\d+)?)?"
    wanted = (
        rf"iteration 1/3   reward {number}   KL {number}   clip [\d.]+ %   "
        r"\d+ images/s   ETA \d+:\d\d"
    )
    assert any(re.fullmatch(wanted, line) for line in lines), said
    assert "\x1b" not in said
    assert "│" not in said
    header = next(k for k, line in enumerate(lines) if line.startswith("sampler"))
    assert [line.split()[:2] for line in lines[header + 1 : header + 5]] == [
        ["SDE", "2"],
        ["SDE", "4"],
        ["ODE", "2"],
        ["ODE", "4"],
    ]
    assert any(line.startswith("ideal KL: ") and "nats" in line for line in lines)
    assert lines[-1] == f"report: {folder / 'report.html'}"


def test_the_regulator_comes_nearer_to_its_optimum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "lq-smoke --threads 1 --iterations 8 --rollout.batch 256 --rollout.steps 20"
    assert train(*words.split(), "--run-dir", tmp_path / "run") == 0
    found = evaluation(tmp_path / "run")
    before, after = (found[s][0]["numbers"]["regret"]["value"] for s in ("before", "after"))
    assert 0 < after < 0.3 * before
    assert found["facts"]["numbers"]["optimum"]["stderr"] is None
    said = capsys.readouterr().out
    assert "optimum: " in said
    assert "paths/s" in said
    assert "KL" not in said
    assert not (tmp_path / "run" / "samples").exists()


def test_ddpo_is_the_same_run_without_a_value(tmp_path: Path) -> None:
    assert train(*DIGITS, "--algorithm", "ddpo", "--run-dir", tmp_path / "run") == 0
    for record in records(tmp_path / "run"):
        assert record["value_loss"] is None
        assert record["policy_loss"] is not None
    last = tmp_path / "run" / "checkpoints" / "000003"
    assert not (last / "value.safetensors").exists()


def test_a_run_without_a_folder_gets_one_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(*LQ) == 0
    assert train(*LQ) == 0
    found = sorted((tmp_path / "runs").iterdir())
    assert len(found) == 2
    assert all(re.match(r"lq-smoke-\d{8}-\d{6}", path.name) for path in found)
    said = capsys.readouterr().out
    assert all(f"run: runs/{path.name}" in said for path in found)
    assert records(found[0]) == records(found[1])


@pytest.fixture
def own_reward(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module `own` with a reward `fn` that is the mean brightness, until it is changed."""
    own = ModuleType("own")

    def mean(images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))

    def fn(
        images: Tensor, prompts: list[str], metadata: object
    ) -> tuple[Tensor, dict[str, object]]:
        return own.answer(images), {}

    own.mean, own.fn, own.answer = mean, fn, mean  # pyright: ignore[reportAttributeAccessIssue]  # a module takes any name
    monkeypatch.setitem(sys.modules, "own", own)
    return own


def fail_later(own: ModuleType, patch: pytest.MonkeyPatch, answer: object) -> None:
    """Let the reward give this answer after the first iteration."""
    add = Journal.add

    def acting(self: Journal, record: Record) -> None:
        add(self, record)
        if record["iteration"] == 1:
            patch.setattr(own, "answer", answer)

    patch.setattr(Journal, "add", acting)


def raises(images: Tensor) -> Tensor:
    raise ZeroDivisionError("of all things")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (lambda images: images.mean((1, 2, 3)) * torch.nan, "returned nan for the prompt"),
        (lambda images: images.mean((1, 2)), "must return one real number an image"),
        (raises, "raised ZeroDivisionError: of all things"),
    ],
)
def test_a_reward_that_fails_in_the_middle(
    answer: object,
    text: str,
    own_reward: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        fail_later(own_reward, patch, answer)
        assert train(*DIGITS, "--problem.reward", "own:fn", "--run-dir", run) == 3
    said = capsys.readouterr().err
    assert text in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(run / "failed_batch.safetensors") in said
    assert load_file(run / "failed_batch.safetensors")["images"].shape == (12, 1, 8, 8)
    assert checkpoints(run) == ["000001", "000002"]
    assert len(records(run)) == 2
    assert train("--resume", run) == 0  # once the reward is mended
    assert len(records(run)) == 3


def test_a_reward_that_fails_at_once_costs_nothing(
    own_reward: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(own_reward, "answer", raises)
    assert train(*DIGITS, "--problem.reward", "own:fn", "--run-dir", tmp_path / "run") == 2
    assert "raised ZeroDivisionError" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_that_explodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*LQ, "--update.learning-rate", "1e30", "--update.clip-norm", "1e30"]
    assert train(*words, "--run-dir", tmp_path / "run") == 3
    said = capsys.readouterr().err
    assert "learning rate" in said
    assert said.count("\n") == 1
    assert load_file(tmp_path / "run" / "failed_batch.safetensors")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory; free some, or start again"),
        (MemoryError(), "out of memory; free some, or start again with --micro-batch N, images"),
        (ShapeError("t must be (batch,)"), "t must be (batch,); everything up to the last"),
        (OSError(28, "No space left on device"), "No space left on device); make room there"),
    ],
)
def test_other_failures_in_the_middle(
    error: Exception,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(self: Experiment, start: int = 0) -> object:
        raise error
        yield

    monkeypatch.setattr(Experiment, "iterations", broken)
    assert train(*LQ, "--run-dir", tmp_path / "run") == 3
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_a_folder_that_holds_a_run_is_left_alone(
    digits: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = digits
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert train(*DIGITS, "--run-dir", folder) == 2
    assert f"already holds a run; continue it with --resume {folder}" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def record(iteration: int, *, kl: float = 1.5, clip: float | None = 0.25) -> Record:
    return {
        "iteration": iteration,
        "reward": {"mean": -0.5, "stderr": 0.125},
        "divergence": {"mean": kl, "stderr": 0.5},
        "clip_fraction": clip,
        "timing": {"images_per_second": 99.6},
    }


def test_bars_on_a_terminal() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    voice = voice_for(screen, unit="images", has_kl=True)
    assert isinstance(voice, Bars)
    with voice.stage("evaluation before") as tick:
        tick(1, 8)
        tick(8, 8)
    with voice.training(2, 40) as tell:
        tell(record(2))
    assert isinstance(screen.file, io.StringIO)
    shown = screen.file.getvalue()
    assert "evaluation before" in shown
    assert "8/8" in shown
    assert "3/40" in shown
    assert "reward −0.50 ± 0.12   KL 1.50 ± 0.50   clip 25.0 %   100 images/s" in shown


def test_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    paper = io.StringIO()
    voice = voice_for(Console(file=paper, width=300), unit="paths", has_kl=False)
    assert isinstance(voice, Lines)
    with voice.training(0, 100) as tell:
        for k in range(100):
            tell(record(k, clip=None))
    lines = paper.getvalue().splitlines()
    assert len(lines) == 21  # every fifth and the last
    assert re.fullmatch(
        r"iteration   1/100   reward −0\.50 ± 0\.12   100 paths/s   ETA 0:0\d", lines[0]
    )
    voice.warn("look out")
    assert paper.getvalue().endswith("warning: look out\n")


def test_slow_stages_tell_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from ctcontrol_diffusion.run import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    paper = io.StringIO()
    with voice_for(Console(file=paper), unit="images", has_kl=True).stage("evaluation") as tick:
        tick(1, 2)
        tick(2, 2)
    assert paper.getvalue() == "evaluation: 1/2\nevaluation: done in 0:00\n"


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (-0.7134, 0.0213, "−0.713 ± 0.021"),
        (1234.5, 12.3, "1234 ± 12"),
        (3.0, None, "3"),
        (3.14159, 0.0, "3.142"),
        (None, None, "–"),
        (0.5, float("nan"), "0.5"),
    ],
)
def test_numbers_have_the_digits_their_errors_allow(
    value: float | None, stderr: float | None, text: str
) -> None:
    assert pair(value, stderr) == text


def test_words() -> None:
    assert clock(65) == "1:05"
    assert clock(3723) == "1:02:03"
    assert plain("ideal_kl") == "ideal KL"


def test_a_run_goes_on_when_nobody_reads_it_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        screen = Output(file=file)
        screen.print("into the void")
        assert screen.quiet
        screen.print("again")


def test_errors_keep_their_kind() -> None:
    """Bad input is one kind of error; the command turns all of it into exit status 2."""
    from ctcontrol_diffusion.run.checkpoint import CheckpointError

    assert issubclass(CheckpointError, CtcontrolError)
