from dataclasses import asdict, fields, replace

import pytest

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import LQ, Cifar10, Config, Digits, StableDiffusion
from ctcontrol_diffusion.presets import PRESETS, preset


def test_the_first_is_the_default() -> None:
    assert next(iter(PRESETS)) == "digits"
    assert preset("digits") == Config()


@pytest.mark.parametrize(
    "name",
    ["digits", "cifar10-t10", "cifar10-t4", "sd15-imagereward", "sd15-aesthetic", "sd15-jpeg"],
)
def test_twins_differ_in_their_algorithm_and_in_nothing_else(name: str) -> None:
    """What the two methods are compared at is the same to the last number."""
    ours, theirs = preset(name), preset(f"{name}-ddpo")
    assert (ours.algorithm, theirs.algorithm) == ("ctrl", "ddpo")
    assert replace(theirs, algorithm="ctrl") == ours
    differing = {f.name for f in fields(Config) if getattr(ours, f.name) != getattr(theirs, f.name)}
    assert differing == {"algorithm"}


def test_the_long_run_has_the_same_task_and_algorithm() -> None:
    long, short = asdict(preset("digits-long")), asdict(preset("digits"))
    assert long["problem"].pop("kl_weight") >= short["problem"].pop("kl_weight")
    changed = {key for key in long if long[key] != short[key]}
    assert "iterations" in changed
    assert changed <= {"iterations", "rollout", "update", "critic"}
    assert long["iterations"] > short["iterations"]


def test_every_kind_of_problem_has_a_preset() -> None:
    assert {type(config.problem) for config in PRESETS.values()} == {
        Digits,
        Cifar10,
        StableDiffusion,
        LQ,
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digit", "did you mean 'digits'"),
        ("lq", "there are digits, digits-ddpo"),
        ("lq-smok", "did you mean 'lq-smoke'"),
        ("zzz", "unknown preset 'zzz'; there are digits"),
    ],
)
def test_unknown_names(name: str, hint: str) -> None:
    with pytest.raises(CtcontrolError, match=hint):
        preset(name)
