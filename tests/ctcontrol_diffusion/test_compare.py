"""Presets over seeds: the table is that of the runs, and words that are wrong cost nothing."""

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ctcontrol_diffusion.compare import _comparison
from ctcontrol_diffusion.compare.__main__ import main
from ctcontrol_diffusion.compare._outcome import Cell, Outcome
from ctcontrol_diffusion.compare._table import table
from tests.ctcontrol_diffusion.tiny import tiny_pixels

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, NumPy 2


def outcome(preset: str, seed: int, reward: float, seconds: float | None) -> Outcome:
    cells = [Cell({"sampler": "SDE", "steps": n}, {"reward": reward * n}) for n in (1, 2)]
    if preset == "a":
        cells[0].numbers["kl"] = 0.5
    return Outcome(preset, seed, 96, seconds, tuple(cells))


def test_the_table_has_means_and_standard_errors_over_seeds() -> None:
    runs = [outcome("b", 0, 7.0, None), outcome("a", 0, 1.0, 0.5), outcome("a", 1, 3.0, 0.7)]
    lines = table(runs).splitlines()
    error = statistics.stdev([1.0, 3.0]) / math.sqrt(2)
    assert lines[0] == (
        "| preset | seeds | images | sampler | steps | reward | kl | seconds/iteration |"
    )
    assert lines[2:4] == [f"| b | 1 | 96 | SDE | {n} | {7 * n} | – | – |" for n in (1, 2)]
    assert lines[4] == f"| a | 2 | 96 | SDE | 1 | 2 ± {error:.2g} | 0.5 ± 0 | 0.6 ± 0.1 |"
    assert lines[5] == f"| a | 2 | 96 | SDE | 2 | 4 ± {2 * error:.2g} | – | 0.6 ± 0.1 |"


LQ = "lq-smoke --seeds 2 --iterations 3 --threads 1".split()


def test_two_seeds_of_a_regulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs.json"
    words = [*LQ, "--update.learning-rate", "0.02", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "| lq-smoke | 2 | 768 | " in said
    content = json.loads(out.read_text())
    runs = content["runs"]
    assert content["configs"]["lq-smoke"]["update"]["learning_rate"] == 0.02
    assert [run["seed"] for run in runs] == [0, 1]
    regrets = [run["cells"][0]["numbers"]["regret/initial"] for run in runs]
    assert all(0 < regret < 1 for regret in regrets)
    assert regrets[0] != regrets[1]
    again = tmp_path / "again.json"
    assert main([*words[:-1], str(again)]) == 0
    cells = [run["cells"] for run in json.loads(again.read_text())["runs"]]
    assert cells == [run["cells"] for run in runs]


def test_what_is_finished_is_not_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train_once: Any = _comparison.train_once

    def counted(name: str, config: Any, *rest: Any) -> Any:
        trained.append(config.seed)
        if config.seed == 7:
            raise KeyboardInterrupt
        return train_once(name, config, *rest)

    monkeypatch.setattr(_comparison, "train_once", counted)
    words = [*LQ, "--out", str(tmp_path / "runs.json")]
    assert main([*words, "--seed", "6"]) == 130
    assert "finished runs were written" in capsys.readouterr().err
    assert trained == [6, 7]
    assert main([*words, "--seed", "5"]) == 0
    assert trained == [6, 7, 5]
    assert "| lq-smoke | 2 | 768 | " in capsys.readouterr().out
    assert main([*words, "--critic.width", "16"]) == 2
    assert "holds runs of other configs" in capsys.readouterr().err
    (tmp_path / "runs.json").write_text("[]")
    assert main(words) == 2
    assert "holds something else" in capsys.readouterr().err


def test_image_models_before_and_after(tmp_path: Path) -> None:
    model = tiny_pixels(tmp_path / "model")
    out, picture = tmp_path / "runs.json", tmp_path / "picture.png"
    flags = (
        f"cifar10-t4 cifar10-t4-ddpo --problem.model {model} --problem.reward brightness "
        "--device cpu --threads 1 --iterations 2 --rollout.batch 6 --update.minibatch 8 "
        "--update.warmup 0 --critic.minibatch 8 --critic.width 8 --critic.policy-waits 0 "
        "--evaluation.grid 3 --seeds 1 --steps 2 4 --images 7 --judge symmetry"
    )
    words = [*flags.split(), "--out", str(out), "--picture", str(picture)]
    assert main(words) == 0
    runs = json.loads(out.read_text())["runs"]
    assert [run["preset"] for run in runs] == ["before", "cifar10-t4", "cifar10-t4-ddpo"]
    for run in runs:
        assert [cell["labels"] for cell in run["cells"]] == [
            {"sampler": "SDE", "steps": n} for n in (2, 4)
        ]
        assert all({"reward", "judge", "kl"} <= cell["numbers"].keys() for cell in run["cells"])
    numbers = [run["cells"][1]["numbers"] for run in runs]
    assert numbers[0]["kl"] == 0
    assert numbers[1]["kl"] > 0
    assert numbers[0]["judge"] != numbers[1]["judge"]
    with Image.open(picture) as image:
        size = image.size
    picture.unlink()
    assert main(words) == 0  # from what was kept
    with Image.open(picture) as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("digitss", "unknown preset 'digitss'; did you mean 'digits'?"),
        ("--seeds 0", "--seeds must be a whole number >= 1, got 0"),
        ("--images 2", "--evaluation.images"),
        ("--sedes 2", "did you mean '--seeds'?"),
        ("--steps 0", "--evaluation.steps"),
        ("--out nowhere/at/all.json", "there is no folder nowhere/at to write all.json into"),
        ("digits lq-smoke --problem.kl-weight 1", "there is no --problem.kl-weight"),
    ],
)
def test_bad_words_are_one_sentence(
    words: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert not said.out
