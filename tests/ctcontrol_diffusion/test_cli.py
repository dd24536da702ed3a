"""Every word that can be wrong on the command line: one sentence, exit 2, nothing begun."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ctcontrol import CtcontrolError
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion._cli import flags
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.presets import PRESETS
from ctcontrol_diffusion.run.config_file import command_line, config_from_json, config_to_json
from ctcontrol_diffusion.train import Arguments, parse
from tests.runs import train

BAD = {
    "digit": "unknown preset 'digit'; did you mean 'digits'?",
    "zzz": "unknown preset 'zzz'; there are digits",
    "digits lq-smoke": "'lq-smoke' stands where a flag was expected",
    "--seed": "--seed takes a whole number, but nothing follows it",
    "--seed x": "--seed takes a whole number, got 'x'",
    "--seed=x": "--seed takes a whole number, got 'x'",
    "--seed 1.5": "--seed takes a whole number, got '1.5'",
    "--seed 1 2": "'2' stands where a flag was expected",
    "--seed 1 --seed 2": "--seed is given 2 times",
    "--seed -1": "--seed must be a whole number >= 0, got -1",
    "--sed 1": "there is no --sed; did you mean '--seed'?",
    "--lerning-rate 1": "did you mean '--update.learning-rate'?",
    "--update.learning-rat 1": "did you mean '--update.learning-rate'?",
    "--critic.learnin_rate 1": "did you mean '--critic.learning-rate'?",
    "--update.learning-rate fast": "--update.learning-rate takes a number, got 'fast'",
    "--update.advantage-decay -1": "--update.advantage-decay must be a finite number >= 0, got -1",
    "--update.learning-rate nan": "--update.learning-rate must be a finite number > 0, got nan",
    "--update.share 1.5": "--update.share must be in (0, 1], got 1.5",
    "--update.credited 0": "--update.credited must be in (0, 1], got 0",
    "--update.averaged 1": "--update.averaged must be in [0, 1), got 1",
    "--problem.kl-weight -1": "--problem.kl-weight must be a finite number >= 0, got -1",
    "--problem.eta 0": "--problem.eta must be in (0, 1], got 0",
    "--problem.horizon 3": "there is no --problem.horizon",
    "lq-smoke --problem.eta 1": "there is no --problem.eta",
    "--problem.denoiser nowhere.safetensors": "there is no file nowhere.safetensors",
    "--problem.reward alignmen": "unknown reward 'alignmen'; did you mean 'alignment'?",
    "--problem.reward no_such_module:f": "no module 'no_such_module'",
    "--algorithm ppo": "--algorithm takes one of ctrl, ddpo, pathwise, got 'ppo'",
    "--rollout.exploration some": "--rollout.exploration takes a number or absorbed, got 'some'",
    "--rollout.exploration 0": "--rollout.exploration must be a finite number > 0, got 0",
    "--evaluation.steps 10 x": "--evaluation.steps takes whole numbers, got '10 x'",
    "--evaluation.steps 10 0": "--evaluation.steps must be a whole number >= 1, got 0",
    "--rollout.batch 9 --rollout.steps 5 --update.share 1 --update.minibatch 46": (
        "(9 trajectories of 5 steps); give --update.minibatch 45 or less"
    ),
    "--rollout.batch 9 --rollout.steps 5 --update.share 0.5 --update.minibatch 23": (
        "--update.share 0.5 of them); give --update.minibatch 22 or less"
    ),
    "--device abacus": "device 'abacus' cannot be used",
    "--dry-run=yes": "--dry-run takes no value, got 'yes'",
    "--resume nowhere": "nowhere does not exist",
    "--resume .": ". holds no run",
    "--resume nowhere --seed 3": "--resume takes nothing else",
    "digits --resume nowhere": "--resume takes nothing else",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_words_are_one_sentence(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(*words.split()) == 2
    said = capsys.readouterr()
    assert BAD[words] in said.err
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["digits", "cifar10-t10", "lq-smoke"])
def test_every_number_has_a_range(name: str) -> None:
    """No numeric flag takes −1, and no real one takes NaN."""
    for flag, kind in flags(Arguments(PRESETS[name]), "config"):
        for bad in {int: ["-1"], float: ["-1", "nan"]}.get(kind, []):
            _, arguments = parse([name, flag, bad])
            with pytest.raises(CtcontrolError, match=flag):
                check_config(arguments.config)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_in_range(name: str) -> None:
    assert check_config(PRESETS[name]) is PRESETS[name]


def test_words_become_the_config_they_say() -> None:
    words: str = (
        "digits-ddpo --problem.kl_weight=2 --rollout.exploration 3 --evaluation.steps 3 4 "
        "--algorithm pathwise --dry-run --run-dir somewhere --problem.reward brightness"
    )
    name, arguments = parse(words.split())
    default = PRESETS["digits-ddpo"]
    assert name == "digits-ddpo"
    assert arguments.dry_run
    assert arguments.run_dir == Path("somewhere")
    assert isinstance(default.problem, c.Digits)
    assert arguments.config == replace(
        default,
        problem=replace(default.problem, kl_weight=2.0, reward="brightness"),
        rollout=replace(default.rollout, exploration=3.0),
        evaluation=replace(default.evaluation, steps=(3, 4)),
        algorithm="pathwise",
    )


def test_no_words_are_the_first_preset() -> None:
    assert parse([]) == ("digits", Arguments(PRESETS["digits"]))


@pytest.mark.parametrize("name", PRESETS)
def test_dry_run_prints_the_config_and_makes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(name, "--seed", "5", "--dry-run") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["preset"] == name
    assert config_from_json(shown["config"]) == replace(PRESETS[name], seed=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_json_and_the_command_line(name: str) -> None:
    default = PRESETS[name]
    config = replace(
        default,
        seed=7,
        algorithm="pathwise",
        update=replace(default.update, learning_rate=1.2345678901234567e-5),
        rollout=replace(default.rollout, exploration=0.25),
        evaluation=replace(default.evaluation, steps=(1, 2)),
    )
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config
    words = command_line(name, config).split()
    assert words[:3] == ["python", "-m", "ctcontrol_diffusion.train"]
    assert parse(words[3:]) == (name, Arguments(config))


@pytest.mark.parametrize("name", ["digits", "cifar10-t10", "lq-smoke"])
def test_help_explains_every_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse([name, "--help"])
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag, _ in flags(Arguments(PRESETS[name]), "config"):
        _, _, after = text.partition(f" {flag}")
        assert after, flag
        kind, *words = after.partition("(default:")[0].replace("│", " ").split()
        assert kind.isupper() or kind.startswith(("{", "[", ",", "FLOAT|")), (flag, kind)
        assert len(words) >= 3, flag


def test_the_program_is_quick_to_say_what_is_wrong() -> None:
    """And says it on stderr, without a traceback, from a process of its own."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['train', 'digit']\n"
        "try:\n"
        "    runpy.run_module('ctcontrol_diffusion.train', run_name='__main__')\n"
        "finally:\n"
        "    assert not {'diffusers', 'transformers', 'matplotlib'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown preset")
    assert done.stderr.count("\n") == 1
