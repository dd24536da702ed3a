"""Latent diffusion models from diffusers: Stable Diffusion 1 and 2, and SDXL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.guidance import Conditions
from ctcontrol_diffusion.models._loading import class_of, loading

AT_ONCE = 64
"""Texts encoded together."""


@dataclass(frozen=True, eq=False)
class LatentModel:
    """What a checkpoint holds, frozen.

    Attributes:
        pipeline: of diffusers; its text encoders and tokenizers make conditions.
        resolution: side of an image in pixels.
    """

    pipeline: Any
    resolution: int

    @property
    def network(self) -> Any:
        """The `UNet2DConditionModel`."""
        return self.pipeline.unet

    @property
    def scheduler(self) -> Any:
        """Says what the network predicts and at which noise levels."""
        return self.pipeline.scheduler

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a latent: channels, height, width."""
        side = self.resolution // self.pipeline.vae_scale_factor
        return self.network.config["in_channels"], side, side

    @property
    def others(self) -> list[nn.Module]:
        """The autoencoder and the text encoders."""
        names = ("vae", "text_encoder", "text_encoder_2")
        found = (getattr(self.pipeline, name, None) for name in names)
        return [part for part in found if part is not None]

    @property
    def wants_size(self) -> bool:
        """Whether the network is told the size of the image and a pooled text (SDXL)."""
        return self.network.config["addition_embed_type"] == "text_time"

    @torch.no_grad()
    def conditions(self, texts: Sequence[str]) -> Conditions:
        """Of prompts, one row each, float32 on the network's device."""
        parts = [self._encoded(texts[i : i + AT_ONCE]) for i in range(0, len(texts), AT_ONCE)]
        return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}

    @torch.no_grad()
    def nothing(self, negative: str) -> Conditions:
        """Of the unprompted half of guidance: an empty, or a negative, prompt; one row."""
        given = self.pipeline.encode_prompt(
            prompt="",
            device=self.network.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=negative or None,
        )
        return self._named(given[1::2])

    def _encoded(self, texts: Sequence[str]) -> Conditions:
        given = self.pipeline.encode_prompt(
            prompt=list(texts),
            device=self.network.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        return self._named(given[0::2])

    def _named(self, given: Sequence[Tensor]) -> Conditions:
        names = ("encoder_hidden_states", "text_embeds")[: len(given)]
        return {name: value.float() for name, value in zip(names, given, strict=True)}

    def decode(self, latents: Tensor) -> Tensor:
        """Clean latents to images in [0, 1], float32; keeps gradients inside the range."""
        autoencoder = self.pipeline.vae
        settings = autoencoder.config
        z = latents / settings["scaling_factor"]
        if settings.get("latents_mean") is not None and settings.get("latents_std") is not None:
            mean, std = (
                z.new_tensor(settings[key]).reshape(1, -1, 1, 1)
                for key in ("latents_mean", "latents_std")
            )
            z = z * std + mean
        images = autoencoder.decode(z.to(autoencoder.dtype)).sample
        return (0.5 * (images.float() + 1)).clamp(0, 1)


def load_latent_model(
    model: str,
    device: torch.device | str = "cpu",
    *,
    weights: torch.dtype = torch.float32,
    resolution: int | None = None,
) -> LatentModel:
    """The pipeline in a folder written by `save_pretrained`, or of that id on the hub.

    No code of the checkpoint is run. Safety checkers are left out.

    Args:
        model: folder or id.
        device: of all networks.
        weights: precision that they are kept in.
        resolution: side of an image in pixels; the model's own if None.

    Raises:
        CtcontrolError: nothing is there and the hub cannot be reached; it is of another kind; the
            resolution does not divide into latents.
    """
    with loading(model):
        pipeline = _pipeline(model, weights)
    pipeline.to(device)
    loaded = LatentModel(pipeline, _resolution(pipeline, model, resolution))
    for part in (pipeline.unet, *loaded.others):
        part.eval().requires_grad_(False)
    return loaded


def _pipeline(model: str, weights: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    parts: Any = DiffusionPipeline.load_config(model)
    if class_of(parts.get("unet")) != "UNet2DConditionModel" or "text_encoder" not in parts:
        raise CtcontrolError(
            f"--problem.model {model} holds a {parts.get('_class_name')}, which does not denoise "
            "latents by a UNet2DConditionModel told a text; give a StableDiffusionPipeline or "
            "StableDiffusionXLPipeline"
        )
    without = ("safety_checker", "feature_extractor", "image_encoder")
    unused: dict[str, Any] = {name: None for name in without if name in parts}
    if "requires_safety_checker" in parts:
        unused["requires_safety_checker"] = False
    pipeline: Any = DiffusionPipeline.from_pretrained(model, dtype=weights, **unused)
    settings = pipeline.unet.config
    if settings["in_channels"] != pipeline.vae.config["latent_channels"]:
        raise CtcontrolError(
            f"the network of {model} takes {settings['in_channels']} channels, and latents have "
            f"{pipeline.vae.config['latent_channels']}: it wants an image besides (inpainting, "
            "depth); give a text-to-image model"
        )
    if settings["time_cond_proj_dim"] is not None or settings["class_embed_type"] is not None:
        raise CtcontrolError(
            f"the network of {model} is told its guidance or an image embedding (LCM, unCLIP); "
            "give the model that it was made from"
        )
    return pipeline


def _resolution(pipeline: Any, model: str, wanted: int | None) -> int:
    factor = pipeline.vae_scale_factor
    if wanted is None:
        size = pipeline.unet.config["sample_size"]
        return factor * (size if isinstance(size, int) else size[0])
    halvings = len(pipeline.unet.config["block_out_channels"]) - 1
    least = factor * 2**halvings
    if wanted % least:
        raise CtcontrolError(
            f"--problem.resolution {wanted} does not divide by {least}, as the networks of {model} "
            f"need; give {max(1, round(wanted / least)) * least}"
        )
    return wanted
