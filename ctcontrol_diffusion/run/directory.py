"""The folder of a run: what is where, made once, used by one process at a time."""

import fcntl
import json
import platform
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.presets import preset as preset_called
from ctcontrol_diffusion.run.config_file import command_line, config_from_json, config_to_json
from ctcontrol_diffusion.run.files import to_json, write_atomically
from ctcontrol_diffusion.run.keeper import Keeper
from ctcontrol_diffusion.run.metrics import Metrics

CONFIG = "config.json"
PACKAGES = ("ctcontrol", "torch", "diffusers", "numpy", "safetensors")


@dataclass(frozen=True)
class RunDirectory:
    """A run on disk.

    Attributes:
        path: the folder.
        preset: the name it was started with.
        config: its choices.
        weights: fingerprint of the networks before training.
        versions: of the packages that started it.
    """

    path: Path
    preset: str
    config: Config
    weights: str
    versions: dict[str, str]

    @property
    def keeper(self) -> Keeper:
        """checkpoints/."""
        return Keeper(self.path / "checkpoints", self.config.evaluation.stop_on)

    @property
    def metrics(self) -> Metrics:
        """metrics.jsonl."""
        return Metrics(self.path / "metrics.jsonl")

    @property
    def samples(self) -> Path:
        """Pictures."""
        return self.path / "samples"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def command(self) -> str:
        """The command that repeats this run elsewhere."""
        return command_line(self.preset, self.config)

    def evaluation(self) -> dict[str, Any]:
        """evaluation.json, or what there is of it: facts, before, after."""
        path = self.path / "evaluation.json"
        try:
            found = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def keep_evaluation(self, **parts: Any) -> None:
        """Add parts to evaluation.json."""
        content = to_json(self.evaluation() | parts, indent=1)
        write_atomically(self.path / "evaluation.json", content)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep other processes away; a process that dies lets go by itself.

        Raises:
            CtcontrolError: another process works on this run.
        """
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CtcontrolError(
                    f"another process is working on {self.path}; wait for it, or stop it first"
                ) from None
            yield


def new_folder(path: Path | None, preset: str) -> Path:
    """The folder for a new run: `path`, or runs/<preset>-<time> where none is given.

    Raises:
        CtcontrolError: the folder holds a run, or anything else.
    """
    if path is None:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        path = Path("runs") / f"{preset}-{stamp}"
        others = (path.with_name(f"{path.name}-{n}") for n in range(2, 1000))
        return next((p for p in [path, *others] if not p.exists()), path)
    if (path / CONFIG).exists():
        raise CtcontrolError(
            f"{path} already holds a run; continue it with --resume {path}, or choose another "
            "folder for a new one"
        )
    if path.exists() and (not path.is_dir() or any(map(_matters, path.iterdir()))):
        raise CtcontrolError(f"{path} holds other things already; choose a new or empty folder")
    return path


def _matters(file: Path) -> bool:
    """Not so the remains of a start that was cut off before it had written a config."""
    return not (file.name.startswith(f".{CONFIG}.") and file.name.endswith(".tmp"))


def create(path: Path, preset: str, config: Config, weights: str) -> RunDirectory:
    """Make the folder of a new run; raises `CtcontrolError` if it cannot be written."""
    run = RunDirectory(path, preset, config, weights, versions())
    about = {
        "preset": preset,
        "config": config_to_json(config),
        "command": run.command,
        "threads": config.threads,
        "initial_weights": weights,
        "versions": run.versions,
    }
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_atomically(path / CONFIG, to_json(about, indent=1))
    except OSError as error:
        raise CtcontrolError(
            f"cannot write to {path} ({error.strerror}); choose another folder with --run-dir"
        ) from None
    return run


def open_run(path: Path) -> RunDirectory:
    """The run in a folder.

    Raises:
        CtcontrolError: there is none, or its config.json is damaged or of another program.
    """
    file = path / CONFIG
    if not file.is_file():
        what = "holds no run" if path.is_dir() else "does not exist"
        raise CtcontrolError(f"{path} {what} (no {CONFIG} there); give the folder of a run")
    try:
        about = json.loads(file.read_bytes())
        config = config_from_json(about["config"])
        preset_called(about["preset"])
        return RunDirectory(
            path, about["preset"], config, about["initial_weights"], about["versions"]
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CtcontrolError(f"{file} is not the config of a run ({reason})") from None


def versions() -> dict[str, str]:
    """What computes here: Python, the packages, the processor's architecture."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
