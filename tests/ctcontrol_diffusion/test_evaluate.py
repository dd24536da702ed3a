"""`evaluate`: what it measures, keeps, continues, refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ctcontrol_diffusion.evaluate import main
from ctcontrol_diffusion.inspection import Inspector
from tests.runs import DIGITS, LQ, evaluation, train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, NumPy 2

GRID = "--steps 2,4 --schedulers sde,ode,dpm++2m --rewards brightness,symmetry".split()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits that have never been asked for 8 and 9, and have learned in big steps."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    words = ["--problem.held-out", "8", "9", "--update.learning-rate", "1e-2"]
    assert train(*DIGITS, *words, "--run-dir", folder) == 0
    return folder


def evaluate(*words: str | Path) -> int:
    return main([str(word) for word in words])


def written(folder: Path, model: str = "000003") -> dict[str, Any]:
    (path,) = folder.glob(f"evaluation-{model}-*.json")
    return json.loads(path.read_text())


def labels(content: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [tuple(cell["labels"].values()) for cell in content["cells"]]


def test_the_grid(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run, *GRID, "--out", tmp_path) == 0
    content = written(tmp_path)
    order = [
        (s, n, g) for g in ("seen", "unseen") for s in ("SDE", "ODE", "dpm++2m") for n in (2, 4)
    ]
    assert labels(content) == order
    for cell in content["cells"]:
        numbers = cell["numbers"]
        names = ["reward", "accuracy", "brightness", "symmetry", "frechet", "diversity"]
        assert all(numbers[name]["stderr"] >= 0 for name in names)
        stochastic = cell["labels"]["sampler"] == "SDE"
        assert ("kl" in numbers) == stochastic == ("kl_steps" in cell)
        if stochastic:
            assert len(cell["kl_steps"]) == cell["labels"]["steps"]
            total = sum(step["value"] for step in cell["kl_steps"])
            assert total == pytest.approx(numbers["kl"]["value"], rel=1e-5)
            assert total > 0
        prompts = {entry["prompt"] for entry in cell["prompts"]}
        assert prompts == ({*"01234567"} if cell["labels"]["prompts"] == "seen" else {*"89"})
        assert sum(entry["count"] for entry in cell["prompts"]) == 20
    assert content["distance"]["called"] == "Fréchet-20 (proxy)"
    base = written(tmp_path, "base")
    assert labels(base) == order
    assert base["cells"][0]["numbers"]["kl"]["value"] == 0
    said = capsys.readouterr().out
    assert said.count("dpm++2m") >= 4
    assert "Fréchet-20 (proxy)" in said
    run_page = (run / "report.html").read_text()
    assert "Fréchet-20 (proxy)" in run_page
    (page,) = tmp_path.glob("evaluation-*.html")
    text = page.read_text()
    for part in ("Over the number of steps", "KL of each step", "color entropy", "unseen", "band"):
        assert part in text
    assert "Fréchet-20 (proxy)" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "http-equiv" not in text


def test_it_is_the_evaluation_of_the_run(run: Path, tmp_path: Path) -> None:
    """The same images at the defaults, number for number."""
    assert evaluate(run, "--out", tmp_path) == 0
    known = evaluation(run)
    for side, model in (("before", "base"), ("after", "000003")):
        mine = [(cell["labels"], cell["numbers"]) for cell in written(tmp_path, model)["cells"]]
        assert mine == [(row["labels"], row["numbers"]) for row in known[side]]


def test_drift_is_paired_by_image(run: Path, tmp_path: Path) -> None:
    assert evaluate(run, "--steps", "2", "--schedulers", "ode", "--out", tmp_path) == 0
    (cell,) = [c for c in written(tmp_path)["cells"] if c["labels"]["prompts"] == "seen"]
    now, base = (
        load_file(next(tmp_path.glob(f"evaluation-{model}-*/ODE-2-seen.safetensors")))
        for model in ("000003", "base")
    )
    for name, drift in cell["drift"].items():
        gap = now[name].double() - base[name].double()
        assert drift["shift"] == pytest.approx(float(gap.mean()), abs=1e-12)
        assert drift["stderr"] == pytest.approx(float(gap.std()) / 20**0.5, abs=1e-12)
    again = tmp_path / "again"
    assert evaluate(run, "--steps", "2", "--no-compare", "--out", again) == 0
    assert all(cell["drift"] == {} for cell in written(again)["cells"])
    assert not list(again.glob("evaluation-base-*"))


class Counted:
    """Cells in the order in which they were sampled; the one after `last` is interrupted."""

    def __init__(self, last: int = 10**9) -> None:
        self.cells: list[str] = []
        self.last = last
        self.samples = Inspector.samples

    def __call__(self, inspector: Inspector, mean: Any, cell: Any, *rest: Any, **more: Any) -> Any:
        if len(self.cells) == self.last:
            raise KeyboardInterrupt
        self.cells.append(cell.name)
        return self.samples(inspector, mean, cell, *rest, **more)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    count = Counted()
    monkeypatch.setattr(Inspector, "samples", lambda *a, **k: count(*a, **k))
    return count


def test_nothing_is_computed_twice_and_nothing_lost(
    run: Path, tmp_path: Path, counted: Counted, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    words = [run, "--steps", "2,3", "--schedulers", "sde"]
    assert evaluate(*words, "--out", whole) == 0
    assert len(counted.cells) == 8  # seen and unseen, before and after
    counted.last = 14
    assert evaluate(*words, "--out", cut) == 130
    assert "same command goes on" in capsys.readouterr().err
    assert len(written(cut)["cells"]) == 2
    counted.last = 10**9
    assert evaluate(*words, "--out", cut) == 0
    assert len(counted.cells) == 16
    assert written(cut)["cells"] == written(whole)["cells"]
    assert evaluate(*words, "--out", cut) == 0
    assert len(counted.cells) == 16  # all there
    more = [run, "--steps", "2,5", "--schedulers", "sde", "--out", cut]
    assert evaluate(*more) == 0
    assert counted.cells[16:] == ["SDE-5-seen", "SDE-5-unseen"] * 2
    assert len(written(cut)["cells"]) == 6  # the cells of 3 steps stay


def test_another_question_is_another_file(run: Path, tmp_path: Path) -> None:
    words = [run, "--steps", "2", "--schedulers", "ode", "--out", tmp_path]
    assert evaluate(*words) == 0
    (first,) = tmp_path.glob("evaluation-000003-*.json")
    before = first.read_bytes()
    changes = (
        ["--seed", "1"],
        ["--images", "21"],
        ["--rewards", "symmetry"],
        ["--checkpoint", "2"],
    )
    for more in changes:
        assert evaluate(*words, *more) == 0
    assert first.read_bytes() == before
    assert len(list(tmp_path.glob("evaluation-000003-*.json"))) == 4
    assert len(list(tmp_path.glob("evaluation-000002-*.json"))) == 1
    assert evaluate(*words, "--checkpoint", "best") == 0
    assert evaluate(run, "--checkpoint", "base", *words[1:]) == 0
    first.write_text("{")
    assert evaluate(*words) == 0
    assert first.read_bytes() == before
    assert first.with_suffix(".json.unusable").read_text() == "{"


def test_prompts_of_a_file_are_told_apart(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("3\n9\n")
    words = ["--steps", "2", "--schedulers", "sde", "--prompts", file, "--out", tmp_path / "out"]
    assert evaluate(run, *words) == 0
    content = written(tmp_path / "out")
    assert labels(content) == [("SDE", 2, "seen"), ("SDE", 2, "unseen")]
    found = [[entry["prompt"] for entry in cell["prompts"]] for cell in content["cells"]]
    assert found == [["3"], ["9"]]
    assert content["question"]["prompts"]["source"] == str(file)


def mean_colors(images: torch.Tensor) -> torch.Tensor:
    return images.mean((2, 3)).expand(-1, 2) * torch.tensor([1.0, 2.0])


def broken(images: torch.Tensor) -> torch.Tensor:
    return images.mean()


def test_features_of_ones_own(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    real = tmp_path / "real.npz"
    np.savez(real, images=rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8))
    words = [run, "--steps", "2", "--schedulers", "ode", "--images", "1000", "--no-compare"]
    mine = ["--features", f"{__name__}:mean_colors", "--real", str(real)]
    assert evaluate(*words, *mine, "--out", tmp_path / "out") == 0
    content = written(tmp_path / "out")
    assert content["distance"] == {
        "number": "frechet",
        "features": f"{__name__}:mean_colors",
        "images": 1000,
        "real_images": 30,
        "called": "Fréchet-1k (proxy)",
    }
    assert content["cells"][0]["numbers"]["frechet"]["value"] > 0


BAD = {
    "--checkpoint 7": "no checkpoint '7'; there are last, best and",
    "--steps 10,x": "--steps must be whole numbers >= 1 between commas, got '10,x'",
    "--steps 0": "--steps must be whole numbers >= 1",
    "--steps 2,,4": "--steps '2,,4' has an empty entry",
    "--steps 1001 --schedulers dpm++2m": "cannot do 1001 steps",
    "--schedulers flow-euler": "not compatible with the model's DDPMScheduler",
    "--schedulers sde,nothing": "unknown scheduler 'nothing'",
    "--images 2": "--images must be a whole number >= 3, got 2",
    "--seed -1": "--seed must be a whole number >= 0, got -1",
    "--prompts nowhere.txt": "no prompts called 'nowhere.txt'",
    "--prompts animals": "prompt 'badger' is not a digit",
    "--rewards brightnes": "unknown reward 'brightnes'; did you mean 'brightness'?",
    "--rewards tests.ctcontrol_diffusion.test_evaluate:broken": "must be a function (images,",
    "--features nowhere.npz": "no weights of a CIFAR ResNet at nowhere.npz",
    "--features json:loads": "--features needs real images to compare with; give --real",
    "--real nowhere.npz": "--real needs --features",
    "--features json:nothing --real x.npz": "--features json:nothing",
    "--nothing 3": "there is no --nothing",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_sentence(
    words: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(run, *words.split(), "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert BAD[words] in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_features_that_are_none(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "real.npz", images=np.zeros((4, 8, 8, 1), dtype=np.uint8))
    words = ["--features", f"{__name__}:broken", "--real", tmp_path / "real.npz"]
    assert evaluate(run, *words) == 2
    assert "must be finite and of shape (images, k), got ()" in capsys.readouterr().err


def test_runs_that_cannot_be_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate() == 2
    assert "which run?" in capsys.readouterr().err
    assert evaluate(tmp_path / "nowhere") == 2
    assert "does not exist" in capsys.readouterr().err
    assert train(*LQ, "--run-dir", tmp_path / "lq") == 0
    capsys.readouterr()
    assert evaluate(tmp_path / "lq") == 2
    assert "is not about images" in capsys.readouterr().err


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        evaluate("--help")
    assert end.value.code == 0
    said = capsys.readouterr().out
    names = "checkpoint steps schedulers images prompts rewards features real seed compare out"
    for name in names.split():
        assert f"--{name}" in said


def test_another_process_is_at_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert evaluate(run, "--out", tmp_path) == 2
    assert "another process is evaluating into" in capsys.readouterr().err
