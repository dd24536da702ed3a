"""Everything that changes during a run, as one folder that appears whole or not at all.

checkpoints/NNNNNN holds the state after NNNNNN iterations: one safetensors file a network and
an optimizer, the generator, and state.json, which names every file with its SHA-256.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.run import tensors as t
from ctcontrol_diffusion.run.files import sync_folder, to_json

FORMAT = 1
MANIFEST = "state.json"


class CheckpointError(CtcontrolError):
    """A checkpoint that cannot be used."""


@dataclass(frozen=True)
class Counters:
    """What a run counts.

    Attributes:
        iterations: iterations done; the index of the next one.
        images: trajectories simulated.
        elapsed: seconds that the iterations took.
    """

    iterations: int = 0
    images: int = 0
    elapsed: float = 0.0


def save_checkpoint(folder: Path, experiment: Experiment, counters: Counters) -> Path:
    """Write checkpoints/NNNNNN below `folder`; an older one of the same number is replaced.

    Raises:
        OSError: it could not be written; whatever was there still is.
    """
    folder.mkdir(exist_ok=True)
    final = folder / f"{counters.iterations:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        content, optimizers = _content(experiment)
        sums = {name: _write(temporary / name, data) for name, data in content.items()}
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "iterations": counters.iterations,
            "images": counters.images,
            "elapsed": counters.elapsed,
            "optimizers": optimizers,
            "sha256": sums,
        }
        _write(temporary / MANIFEST, to_json(manifest, indent=1).encode())
        sync_folder(temporary)
        if final.exists():
            set_aside(final)
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(folder)
    return final


def set_aside(checkpoint: Path) -> None:
    """Rename a checkpoint that is not to be used; an earlier one set aside makes way."""
    aside = checkpoint.with_name(f"{checkpoint.name}.unusable")
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(checkpoint, aside)


def load_checkpoint(checkpoint: Path, experiment: Experiment) -> Counters:
    """Put the networks, optimizers and the generator of `experiment` into the saved state.

    All files are read and checked before anything is changed.

    Raises:
        CheckpointError: a file is missing, damaged, or of a different run.
    """
    manifest, content = _verified(checkpoint)
    try:
        optimizers = {
            name: t.optimizer_state(
                content[f"{name}-optimizer.safetensors"],
                manifest["optimizers"][name],
                updater.optimizer,
            )
            for name, updater in experiment.updaters().items()
        }
        modules = experiment.modules()
        for name, module in modules.items():
            t.check_module(module, content[f"{name}.safetensors"])
        counters = Counters(manifest["iterations"], manifest["images"], manifest["elapsed"])
        experiment.generator.set_state(content["generator.safetensors"]["state"])
    except (CtcontrolError, KeyError, TypeError, RuntimeError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{checkpoint} does not fit this run: {reason}") from None
    for name, updater in experiment.updaters().items():
        updater.load_state_dict(optimizers[name])
    for name, module in modules.items():
        module.load_state_dict(content[f"{name}.safetensors"], strict=False)
    return counters


def load_policy(checkpoint: Path, experiment: Experiment) -> None:
    """Put only the policy into the saved state; raises like `load_checkpoint`."""
    _, content = _verified(checkpoint)
    module = experiment.modules()["policy"]
    saved = content.get("policy.safetensors", {})
    try:
        t.check_module(module, saved)
    except CtcontrolError as error:
        raise CheckpointError(f"{checkpoint} does not fit this run: {error}") from None
    module.load_state_dict(saved, strict=False)


def policy_digest(checkpoint: Path) -> str:
    """SHA-256 of the saved policy, which tells models apart; raises like `load_checkpoint`."""
    manifest, _ = _verified(checkpoint)
    return manifest["sha256"]["policy.safetensors"]


def _content(experiment: Experiment) -> tuple[dict[str, bytes], dict[str, Any]]:
    content: dict[str, bytes] = {}
    optimizers: dict[str, Any] = {}
    for name, module in experiment.modules().items():
        content[f"{name}.safetensors"] = save(t.module_tensors(module))
    for name, updater in experiment.updaters().items():
        flat, optimizers[name] = t.optimizer_tensors(updater.state_dict())
        content[f"{name}-optimizer.safetensors"] = save(flat)
    content["generator.safetensors"] = save({"state": experiment.generator.get_state().cpu()})
    return content, optimizers


def _verified(checkpoint: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """The manifest and the content of all files it names, which are as they were written."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_bytes())
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        content: dict[str, dict[str, Tensor]] = {}
        for name, wanted in manifest["sha256"].items():
            data = (checkpoint / Path(name).name).read_bytes()
            if hashlib.sha256(data).hexdigest() != wanted:
                raise ValueError(f"the checksum of {name} differs")
            content[name] = load(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        reason = f"{error.filename} is missing" if isinstance(error, FileNotFoundError) else error
        raise CheckpointError(f"the checkpoint {checkpoint} is damaged: {reason}") from None
    return manifest, content


def _write(path: Path, data: bytes) -> str:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()
