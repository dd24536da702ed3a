"""The study of value networks against brute force."""

import json
import shlex
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ctcontrol import Context, CtcontrolError, Scalar, State, Time, Value
from ctcontrol_diffusion.critics.__main__ import main, parse
from ctcontrol_diffusion.critics._study import pretrained
from ctcontrol_diffusion.critics._truth import Level, levels_of, miss, spread
from ctcontrol_diffusion.critics._variants import NAMES, variant
from tests.helpers import normal

TINY = shlex.split(
    "digits --threads 1 --images 30 --states 3 --draws 3 --levels 2 --rounds 1 "
    "--rollout.batch 15 --rollout.steps 4 --update.minibatch 30 --critic.minibatch 30 "
    "--critic.width 8 --update.share 0.5"
)


class Known(Value):
    """Says what it is told."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = answer

    def at(self, t: Time, x: State, context: Context, mean: Tensor | None = None) -> Scalar:
        return self.answer


def level(value: Tensor, stderr: float) -> Level:
    n = len(value)
    return Level(0, torch.zeros(n), normal(n, 2), None, normal(n, 2), value, value * 0 + stderr)


def test_the_noise_of_the_truth_is_taken_off() -> None:
    v, noise = normal(4000, seed=1), normal(4000, seed=2)
    known = level(v + 0.5 * noise, 0.5)
    exact = miss(Known(v), known)
    assert abs(exact.square) < 4 * exact.stderr
    assert exact.stderr < 0.01
    off = miss(Known(v + 0.3), known)
    assert off.square == pytest.approx(0.09, abs=4 * off.stderr)
    assert spread(known).square == pytest.approx(1, abs=4 * spread(known).stderr)


def test_the_truth_is_the_mean_reward_of_what_follows() -> None:
    config = parse([*TINY, "--problem.reward", "brightness"]).config
    first, last = levels_of(pretrained(config), 2, states=6, draws=40)
    again = levels_of(pretrained(config), 2, states=6, draws=40)[1]
    assert torch.equal(last.value, again.value)
    assert (first.node, last.node) == (0, 3)
    # in the beginning nothing is decided, in the end nearly all is
    assert float(first.stderr.mean()) > 3 * float(last.stderr.mean()) > 0


def test_the_command_measures_every_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study.json"
    names = ["perceptron", "features", "tower", "tower-1-cos"]
    assert main([*TINY, "--networks", *names, "--out", str(out)]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split("|")[1].strip() for line in table[3:]] == names
    content = json.loads(out.read_text())
    assert content["command"].endswith(f"--networks {' '.join(names)} --out {out}")
    assert [entry["node"] for entry in content["levels"]] == [0, 3]
    found = {outcome["name"]: outcome for outcome in content["outcomes"]}
    assert found["perceptron"]["before"] == found["features"]["before"]  # both begin at 0
    assert found["tower"]["before"] != found["tower-1-cos"]["before"]
    for outcome in content["outcomes"]:
        assert outcome["after"] != outcome["before"]
        assert outcome["ratio"] > 0


def test_networks_differ_in_nothing_else() -> None:
    config = parse(TINY).config
    assert config.iterations == 2
    seen = {str(variant(config, name).critic) for name in NAMES}
    assert len(seen) == len(NAMES)
    assert {variant(config, name).critic.width for name in NAMES} == {8}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--networks nothing", "there is no value network 'nothing'; there are perceptron"),
        ("--draws 1", "--draws"),
        ("--states 1", "--states"),
        ("--levels 1", "--levels"),
        ("--images 0", "--images"),
        ("--critic.tower-share 2", "tower-share must be in"),
    ],
)
def test_bad_words_are_refused_in_one_sentence(
    words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CtcontrolError, match=message):
        parse(["digits", *words.split()])
    assert main(["digits", *words.split()]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_regulators_have_no_such_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lq-smoke"]) == 2
    assert "is for image models" in capsys.readouterr().err
