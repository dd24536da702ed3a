"""A pretraining that has been stopped: one safetensors file, replaced whole."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.run.files import to_json, write_atomically

from ._fit import Fit
from ._pixel_config import PixelPretraining

FILE = "checkpoint.safetensors"
FORMAT = "ctcontrol pretraining 1"


@dataclass(frozen=True)
class Saved:
    """What a checkpoint tells besides its tensors.

    Attributes:
        config: of the run.
        fit: plain values of the fit.
        images: fingerprint of the images.
        elapsed: seconds that the updates took.
    """

    config: PixelPretraining
    fit: dict[str, Any]
    images: str
    elapsed: float


def save_checkpoint(
    fit: Fit, generator: torch.Generator, config: PixelPretraining, images: str, elapsed: float
) -> None:
    """Replace the checkpoint in `config.out`; raises `OSError` if it cannot be written."""
    tensors, plain = fit.state()
    tensors |= {f"random/{name}": state for name, state in _random(generator).items()}
    about = {
        "format": FORMAT,
        "config": asdict(config) | {"out": str(config.out), "images": str(config.images)},
        "fit": plain,
        "images": images,
        "elapsed": elapsed,
    }
    metadata = {"ctcontrol": to_json(about)}
    write_atomically(config.out / FILE, save(tensors, metadata=metadata))


def read_checkpoint(folder: Path) -> Saved:
    """What the checkpoint in a folder tells, without its tensors.

    Raises:
        CtcontrolError: there is none, or it is damaged or of something else.
    """
    path = folder / FILE
    if not path.is_file():
        raise CtcontrolError(
            f"{folder} holds no pretraining to continue (no {FILE} there); give the --out of one "
            "that had reached its first checkpoint"
        )
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["ctcontrol"])
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        known = {field.name for field in fields(PixelPretraining)}
        values = {name: value for name, value in about["config"].items() if name in known}
        values |= {"out": folder, "images": Path(values["images"])}
        return Saved(PixelPretraining(**values), about["fit"], about["images"], about["elapsed"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(path, error) from None


def restore(saved: Saved, fit: Fit, generator: torch.Generator) -> None:
    """Put the fit and all randomness where the checkpoint was taken.

    Raises:
        CtcontrolError: the file is damaged, or of another network.
    """
    path = saved.config.out / FILE
    try:
        tensors = load_file(path)
        states = {name: tensors.pop(f"random/{name}") for name in _random(generator)}
        fit.restore(tensors, saved.fit)
        generator.set_state(states["batches"])
        torch.set_rng_state(states["cpu"])
        if "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], generator.device)
    except (OSError, KeyError, RuntimeError, SafetensorError, CtcontrolError) as error:
        raise _damaged(path, error) from None


def _random(generator: torch.Generator) -> dict[str, Tensor]:
    """States of the generator of minibatches, and of those that dropout draws from."""
    states = {"batches": generator.get_state().cpu(), "cpu": torch.get_rng_state()}
    if generator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(generator.device)
    return states


def _damaged(path: Path, error: Exception) -> CtcontrolError:
    reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
    return CtcontrolError(
        f"the checkpoint {path} cannot be used ({reason}); start anew in another folder"
    )
