"""Presets over seeds: the table is that of the runs, and words that are wrong cost nothing."""

import json
import math
import statistics
from pathlib import Path

import pytest

from ctcontrol_diffusion.compare import Outcome, main, table


def outcome(preset: str, seed: int, reward: float, seconds: float) -> Outcome:
    return Outcome(preset, seed, 96, seconds, {"reward": reward})


def test_the_table_has_means_and_standard_errors_over_seeds() -> None:
    runs = [outcome("a", 0, 1.0, 0.5), outcome("b", 0, 7.0, 2.0), outcome("a", 1, 3.0, 0.7)]
    lines = table(runs).splitlines()
    error = statistics.stdev([1.0, 3.0]) / math.sqrt(2)
    assert lines[0] == "| preset | seeds | images | reward | seconds/iteration |"
    assert lines[2] == f"| a | 2 | 96 | 2 ± {error:.2g} | 0.6 ± 0.1 |"
    assert lines[3] == "| b | 1 | 96 | 7 | 2 |"


def test_two_seeds_of_a_regulator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs.json"
    words = ["lq-smoke", "--seeds", "2", "--iterations", "3", "--out", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "| lq-smoke | 2 | 768 | " in said
    runs = json.loads(out.read_text())["runs"]
    assert [run["seed"] for run in runs] == [0, 1]
    regrets = [run["numbers"]["regret/initial"] for run in runs]
    assert all(0 < regret < 1 for regret in regrets)
    assert regrets[0] != regrets[1]
    assert main(words) == 0
    again = json.loads(out.read_text())["runs"]
    assert [run["numbers"] for run in again] == [run["numbers"] for run in runs]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("digitss", "unknown preset 'digitss'; did you mean 'digits'?"),
        ("--seeds 0", "--seeds must be a whole number >= 1, got 0"),
        ("--images 2", "--evaluation.images"),
        ("--sedes 2", "did you mean '--seeds'?"),
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
