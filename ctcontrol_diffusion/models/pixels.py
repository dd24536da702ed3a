"""Diffusion models of pixels from diffusers: a `UNet2DModel` with the scheduler it came with."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DModel
from diffusers.utils import logging

from ctcontrol import CtcontrolError


@dataclass(frozen=True, eq=False)
class PixelModel:
    """What a checkpoint holds.

    Attributes:
        network: float32, in evaluation mode, all weights trainable.
        scheduler: says what the network predicts and at which noise levels.
    """

    network: UNet2DModel
    scheduler: Any

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image: channels, height, width."""
        size = self.network.config["sample_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return self.network.config["in_channels"], height, width

    @property
    def classes(self) -> int | None:
        """Number of classes that the network takes; None for an unconditional one."""
        return self.network.config["num_class_embeds"]


def load_pixel_model(model: str, device: torch.device | str = "cpu") -> PixelModel:
    """The model in a folder written by `save_pretrained` of a pipeline, or of that id on the hub.

    No code of the checkpoint is run; pickled weights are read by `torch.load(weights_only=True)`.

    Raises:
        CtcontrolError: nothing is there and the hub cannot be reached; it is of another kind.
    """
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # diffusers, of the hub's own deprecations
            pipeline = _pipeline(model)
    except CtcontrolError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CtcontrolError(
            f"cannot load the model {model!r} ({reason}); give --problem.model a folder with the "
            "model_index.json of a diffusers pipeline, or go online if it is the id of a hub"
        ) from error
    network = pipeline.unet.to(device, torch.float32).eval().requires_grad_(True)
    found = PixelModel(network, pipeline.scheduler)
    if found.shape[0] not in (1, 3):
        raise CtcontrolError(
            f"the model {model!r} has {found.shape[0]} channels, which are no pixels; images have "
            "1 (gray) or 3 (RGB)"
        )
    return found


def _pipeline(model: str) -> Any:
    parts: Any = DiffusionPipeline.load_config(model)
    if _name(parts.get("unet")) != "UNet2DModel":
        raise CtcontrolError(
            f"--problem.model {model} holds a {parts.get('_class_name')}, which does not denoise "
            "pixels by a UNet2DModel; give a DDPMPipeline, for example google/ddpm-cifar10-32"
        )
    return DiffusionPipeline.from_pretrained(model)


def _name(part: object) -> str | None:
    """The class of a component of model_index.json, a pair (library, class)."""
    return part[1] if isinstance(part, Sequence) and len(part) == 2 else None
