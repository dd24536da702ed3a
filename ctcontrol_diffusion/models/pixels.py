"""Diffusion models of pixels from diffusers: a `UNet2DModel` with the scheduler it came with."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DModel

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models._loading import class_of, loading


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
    with loading(model):
        pipeline = _pipeline(model)
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
    if class_of(parts.get("unet")) != "UNet2DModel":
        raise CtcontrolError(
            f"--problem.model {model} holds a {parts.get('_class_name')}, which does not denoise "
            "pixels by a UNet2DModel; give a DDPMPipeline, for example google/ddpm-cifar10-32"
        )
    return DiffusionPipeline.from_pretrained(model)
