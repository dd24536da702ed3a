"""Rewards by name, and every way to misspell one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import (
    Brightness,
    ClassifierAlignment,
    JPEGCompressibility,
    JPEGIncompressibility,
    Symmetry,
    load_reward,
    reward_names,
)

SOURCE = """
from types import SimpleNamespace

def red(images, prompts, metadata):
    return images[:, 0].mean((1, 2)), {}

def two_arguments(images, prompts):
    return images[:, 0].mean((1, 2)), {}

class Reward:
    def __call__(self, images, prompts, metadata):
        return red(images, prompts, metadata)

reward = Reward()
rewards = SimpleNamespace(red=red)
weight = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the current directory, which is not on the path."""
    name = "rewards_of_a_user"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_every_name_loads_its_reward() -> None:
    kinds = {
        "alignment": ClassifierAlignment,
        "jpeg-compressibility": JPEGCompressibility,
        "jpeg-incompressibility": JPEGIncompressibility,
        "brightness": Brightness,
        "symmetry": Symmetry,
    }
    assert reward_names() == tuple(kinds)
    for name, kind in kinds.items():
        reward = load_reward(name, classifier=lambda x: x.mean((2, 3)))
        assert reward.name == name
        assert isinstance(reward.function, kind)


@pytest.mark.parametrize("path", ["red", "reward", "rewards.red"])
def test_a_function_of_the_current_directory(module: str, path: str) -> None:
    before = list(sys.path)
    reward = load_reward(f"{module}:{path}")
    rewards, _ = reward(torch.full((2, 3, 4, 4), 0.5), ["", ""], {})
    assert rewards.tolist() == [0.5, 0.5]
    assert sys.path == before


def refuses(name: str, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message) as caught:
        load_reward(name)
    assert "\n" not in str(caught.value)


def test_unknown_names_get_a_hint() -> None:
    refuses("brigthness", r"unknown reward 'brigthness'; did you mean 'brightness'\? there are al")
    refuses("xyz", r"unknown reward 'xyz'; there are alignment, .*, your own as module:func")


def test_alignment_needs_a_classifier() -> None:
    refuses("alignment", r"'alignment' needs a classifier; .* name another reward: jpeg-compr")


@pytest.mark.parametrize("name", [":", "a:", ":f", "a:b:c", "a b:c", ".a:f", "a:f()"])
def test_a_name_must_have_the_form_of_one(name: str) -> None:
    refuses(name, "must have the form module:function")


@pytest.mark.parametrize("name", ["mine.py:red", "./mine.py:red", "/some/folder/mine.py:red"])
def test_a_file_is_no_module(name: str) -> None:
    refuses(name, "names a file; start the program in its folder and name the module, mine:red")


def test_a_module_that_is_not_there(module: str) -> None:
    here = Path.cwd()
    refuses("no_such_module:red", rf"no module 'no_such_module' for the reward .* in {here} or")
    refuses("no_such.module:red", r"no module 'no_such' for the reward 'no_such.module:red'")
    refuses(f"{module}.sub:red", rf"no module '{module}.sub' for the reward")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_package", "imports 'no_such_package', which is not installed; install it"),
        ("1 / 0", "cannot be imported, it raises ZeroDivisionError: division by zero; correct"),
        ("def f(:", "cannot be imported, it raises SyntaxError: invalid syntax"),
        ("import sys; sys.exit(0)", "cannot be imported, it raises SystemExit: 0"),
        ("from math import nothing", "cannot be imported, it raises ImportError: cannot import"),
    ],
)
def test_a_module_that_cannot_be_imported(module: str, source: str, message: str) -> None:
    Path("broken_reward.py").write_text(source)
    refuses(
        "broken_reward:f", f"the module 'broken_reward' of the reward 'broken_reward:f' {message}"
    )


def test_an_attribute_that_is_not_there(module: str) -> None:
    refuses(
        f"{module}:rde",
        rf"'{module}' \(.*{module}\.py\) has no 'rde', which the reward '{module}:rde' asks for; "
        r"did you mean 'red'\? define it there or correct the name",
    )
    refuses(f"{module}:rewards.blue", rf"'{module}.rewards' has no 'blue'")


def test_an_attribute_that_is_no_function(module: str) -> None:
    form = r"a function \(images, prompts, metadata\) -> \(rewards, info\)"
    refuses(f"{module}:weight", rf"reward '{module}:weight' is of type int, not {form}")
    refuses(f"{module}:Reward", rf"is a class; name an instance of it or {form}")
    refuses(f"{module}:two_arguments", rf"takes \(images, prompts\); it must be {form}")


def test_a_function_without_a_signature_is_left_to_the_first_call() -> None:
    assert load_reward("builtins:max").function is max
