"""Experiment trackers besides our own files: those that accelerate knows, and your own."""

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from PIL import Image

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.run.config_file import config_to_json
from ctcontrol_diffusion.run.directory import CONFIG, RunDirectory
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.tensorboard import scalars

PROJECT = "ctcontrol"
BUILT_IN = "tensorboard"
"""Written anyway."""
BARE = ("aim", "clearml")
"""Trackers that take one image under a name, and not a list of them."""


def check_trackers(names: tuple[str, ...]) -> dict[str, type[GeneralTracker]]:
    """name -> class of every tracker, before a run begins.

    Args:
        names: those that accelerate knows, also by `register_tracker_class`, or `module:Class` of
            a `GeneralTracker`.

    Raises:
        CtcontrolError: an unknown name, a package that is not installed, no such class.
    """
    return {name: _tracker_class(name) for name in names}


def _tracker_class(name: str) -> type[GeneralTracker]:
    if ":" in name:
        return _own(name)
    if name not in LOGGER_TYPE_TO_CLASS or name == BUILT_IN:
        there = ", ".join(sorted(set(LOGGER_TYPE_TO_CLASS) - {BUILT_IN}))
        why = "is written anyway" if name == BUILT_IN else "is unknown"
        raise CtcontrolError(
            f"--trackers: {name!r} {why}; there are {there}, and your own as module:Class"
        )
    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    ours = kind.__module__ == GeneralTracker.__module__  # others are registered by their owners
    if ours and importlib.util.find_spec(name) is None:
        raise CtcontrolError(
            f"--trackers: {name} is not installed; install it with: pip install "
            f"{name.replace('_', '-')}"
        )
    return kind


def _own(name: str) -> type[GeneralTracker]:
    module, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise CtcontrolError(
            f"--trackers {name}: {error}; name a class that can be imported from here"
        ) from error
    if not (isinstance(found, type) and issubclass(found, GeneralTracker)):
        raise CtcontrolError(
            f"--trackers {name} is no subclass of accelerate.tracking.GeneralTracker; derive it "
            "from that, with name, requires_logging_directory and tracker"
        )
    return found


class Trackers:
    """All trackers of a run; one that fails is left out, because the run's own files have it all.

    Args:
        kinds: name -> class, of `check_trackers`.
        directory: of the run.
        warn: told of trackers that fail.

    Raises:
        CtcontrolError: one cannot be started.
    """

    def __init__(
        self,
        kinds: dict[str, type[GeneralTracker]],
        directory: RunDirectory,
        warn: Callable[[str], None],
    ) -> None:
        self.warn = warn
        self.active: dict[str, Any] = {}
        config = dict(_flat(config_to_json(directory.config)))
        for name, kind in kinds.items():
            try:
                tracker = _made(name, kind, directory)
                tracker.start()
                tracker.store_init_configuration(config)
            except Exception as error:  # whatever a service, or its client, comes up with
                self.close()
                raise CtcontrolError(
                    f"--trackers: {name} cannot be started ({_reason(error)}); put that right, or "
                    "leave it out"
                ) from error
            self.active[name] = tracker

    def add(self, record: Record) -> None:
        """The numbers of one iteration."""
        values = dict(scalars(record))
        self._each(lambda name, tracker: tracker.log(values, step=record["iteration"]))

    def show(self, iterations: int, file: Path) -> None:
        """The picture that the run drew after `iterations` iterations."""
        if not self.active or not file.is_file():
            return
        with Image.open(file) as image:
            picture = np.asarray(image.convert("RGB"))

        def shown(name: str, tracker: Any) -> None:
            if hasattr(tracker, "log_images"):
                images: Any = picture if name in BARE else [picture]
                tracker.log_images({"samples": images}, step=max(iterations - 1, 0))
            elif hasattr(tracker, "log_artifact"):
                tracker.log_artifact(str(file), artifact_path="samples")

        self._each(shown)

    def close(self) -> None:
        """No more numbers."""
        self._each(lambda name, tracker: tracker.finish())
        self.active.clear()

    def _each(self, work: Callable[[str, Any], None]) -> None:
        for name, tracker in list(self.active.items()):
            try:
                work(name, tracker)
            except Exception as error:  # a service that is away must not end a run
                del self.active[name]
                self.warn(
                    f"the tracker {name} failed and is left out from here on "
                    f"({_reason(error)}); metrics.jsonl has everything"
                )


def _made(name: str, kind: Any, directory: RunDirectory) -> GeneralTracker:
    """A tracker that goes on with what it has of this run, where it can."""
    match name:
        case "wandb":
            own = {"name": directory.path.name, "id": _identity(directory), "resume": "allow"}
            return kind(PROJECT, dir=str(directory.path), **own)
        case "swanlab":
            return kind(PROJECT, experiment_name=directory.path.name)
        case "mlflow":
            return kind(experiment_name=PROJECT, run_name=directory.path.name)
        case "aim":
            return kind(directory.path.name, logging_dir=str(directory.path))
        case "dvclive":
            return kind(dir=str(directory.path / "dvclive"), resume=True)
        case _ if kind.requires_logging_directory:
            return kind(directory.path.name, str(directory.path))
        case _:
            return kind(directory.path.name)


def _identity(directory: RunDirectory) -> str:
    """The same for a run that is resumed, another for a new run in an old folder."""
    began = (directory.path / CONFIG).stat().st_mtime_ns
    return hashlib.sha256(f"{directory.weights} {began}".encode()).hexdigest()[:16]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested choices as `section.field`, in types that every tracker takes."""
    found: list[tuple[str, Any]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            found.append((prefix + key, value if plain else str(value)))
    return found


def _reason(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
