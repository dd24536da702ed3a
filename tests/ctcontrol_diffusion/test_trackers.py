"""Trackers: accelerate's by name, registered ones, your own; what is sent, and failures."""

import importlib.util
import sys
from pathlib import Path
from typing import Any, ClassVar

import accelerate.tracking
import numpy as np
import pytest
from accelerate.tracking import GeneralTracker, WandBTracker

from ctcontrol_diffusion.presets import preset
from ctcontrol_diffusion.run import trackers
from ctcontrol_diffusion.run.directory import create
from tests.runs import DIGITS, records, train


class Memory(GeneralTracker):
    """Keeps what it is told."""

    name = "memory"
    requires_logging_directory = False
    told: ClassVar[list[tuple[str, Any, Any]]] = []

    def __init__(self, run_name: str) -> None:
        super().__init__()
        self.run_name = run_name

    @property
    def tracker(self) -> "Memory":
        return self

    def start(self) -> None:
        Memory.told.append(("start", self.run_name, None))

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        Memory.told.append(("config", values, None))

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        Memory.told.append(("log", values, step))

    def log_images(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        Memory.told.append(("images", values, step))

    def finish(self) -> None:
        Memory.told.append(("finish", None, None))


class Failing(Memory):
    """A service that goes away."""

    name = "failing"

    def log(self, values: dict[str, Any], step: int | None = None, **kwargs: Any) -> None:
        super().log(values, step)
        raise ConnectionError("the service is away")


class Refusing(Memory):
    """A service that lets nobody in."""

    name = "refusing"

    def start(self) -> None:
        raise PermissionError("no key")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    Memory.told.clear()


def told(what: str) -> list[tuple[Any, Any]]:
    return [(values, step) for kind, values, step in Memory.told if kind == what]


def test_everything_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ["--evaluation.watch-every", "2", "--evaluation.watch-images", "5"]
    assert train(*DIGITS, *words, "--trackers", f"{__name__}:Memory", "--run-dir", folder) == 0
    assert [kind for kind, _, _ in Memory.told[:2]] == ["start", "config"]
    assert told("start") == [("run", None)]
    ((config, _),) = told("config")
    assert config["rollout.batch"] == 12
    assert config["problem.kl_weight"] == 1.0
    assert config["evaluation.steps"] == "(2, 4)"
    assert [step for _, step in told("log")] == [0, 1, 2]
    for (values, _), record in zip(told("log"), records(folder), strict=True):
        assert values["reward/mean"] == record["reward"]["mean"]
    assert "watch/dark_pixels/mean" in told("log")[1][0]
    assert "drift/dark_pixels/size" in told("log")[1][0]
    pictures = told("images")
    assert [step for _, step in pictures] == [0, 1, 2]
    (picture,) = pictures[-1][0]["samples"]
    assert isinstance(picture, np.ndarray)
    assert picture.shape[2] == 3
    assert Memory.told[-1][0] == "finish"


def test_a_registered_tracker_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(accelerate.tracking.LOGGER_TYPE_TO_CLASS)
    monkeypatch.setattr(trackers, "LOGGER_TYPE_TO_CLASS", known | {"memory": Memory})
    assert train(*DIGITS, "--trackers", "memory", "--run-dir", tmp_path / "run") == 0
    assert len(told("log")) == 3


def test_one_that_fails_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    names = [f"{__name__}:Failing", f"{__name__}:Memory"]
    assert train(*DIGITS, "--trackers", *names, "--run-dir", folder) == 0
    assert [step for _, step in told("log")] == [0, 0, 1, 2]
    assert len(records(folder)) == 3
    said = capsys.readouterr().out
    assert said.count("failed and is left out from here on (the service is away)") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("comet_ml", "comet_ml is not installed; install it with: pip install comet-ml"),
        ("wnadb", "'wnadb' is unknown; there are aim, "),
        ("tensorboard", "'tensorboard' is written anyway"),
        ("json:nothing", "--trackers json:nothing: "),
        ("no_such_module:Tracker", "No module named 'no_such_module'"),
        ("pathlib:Path", "is no subclass of accelerate.tracking.GeneralTracker"),
        (f"{__name__}:Refusing", "Refusing cannot be started (no key)"),
    ],
)
def test_refused_before_work(
    name: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = tmp_path / "run"
    assert train(*DIGITS, "--trackers", name, "--run-dir", folder) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (folder / "metrics.jsonl").exists()


def test_a_run_that_is_resumed_goes_on_as_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb knows it by an id that stays, and that another run in the folder does not have."""
    made: list[dict[str, Any]] = []

    class Fake(Memory):
        def __init__(self, run_name: str, **kwargs: Any) -> None:
            super().__init__(run_name)
            made.append(kwargs)

    directory = create(tmp_path / "run", "digits", preset("digits"), "weights")
    for _ in range(2):
        trackers.Trackers({"wandb": Fake}, directory, lambda text: None).close()
    again = create(tmp_path / "run", "digits", preset("digits"), "weights")
    trackers.Trackers({"wandb": Fake}, again, lambda text: None).close()
    assert made[0] == made[1]
    assert made[0]["name"] == "run"
    assert made[0]["resume"] == "allow"
    assert made[2]["id"] != made[0]["id"]
    assert WandBTracker("project", **made[0]).init_kwargs == made[0]


def test_importing_them_starts_nothing() -> None:
    assert "wandb" not in sys.modules
