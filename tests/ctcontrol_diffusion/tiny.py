"""Tiny pipelines of diffusers, saved as they come from a hub; no weight is downloaded."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from tests.ctcontrol_diffusion.rewards.tiny import clip_tokenizer, seeded

TOKENS, WIDTH = 77, 32
"""Of a prompt."""

PIXELS: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}


def tiny_pixels(folder: Path, scheduler: Any = None, **changes: Any) -> str:
    """A `DDPMPipeline` of 8 × 8 images, 45 k parameters; `changes` are those of its UNet."""
    torch.manual_seed(0)
    pipeline: Any = DDPMPipeline(UNet2DModel(**{**PIXELS, **changes}), DDPMScheduler())
    pipeline.scheduler = scheduler or DDPMScheduler()
    return _save(pipeline, folder)


def tiny_sd(folder: Path, prediction: str = "epsilon", **changes: Any) -> str:
    """A `StableDiffusionPipeline` of 16 × 16 images (latents 4 × 8 × 8); `changes` of its UNet."""
    torch.manual_seed(0)
    unet = _unet(**changes)
    nothing: Any = None  # not in the annotations, though in the documentation
    pipeline = StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=seeded(CLIPTextModel(_text())),
        tokenizer=clip_tokenizer(),
        unet=unet,
        scheduler=_scheduler(prediction),
        safety_checker=nothing,
        feature_extractor=nothing,
        requires_safety_checker=False,
    )
    return _save(pipeline, folder)


def tiny_sdxl(folder: Path, **changes: Any) -> str:
    """A `StableDiffusionXLPipeline` of 16 × 16 images: two text encoders, added conditions."""
    torch.manual_seed(0)
    times = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    added = times | {"projection_class_embeddings_input_dim": WIDTH + 6 * 8}
    unet = _unet(**{"cross_attention_dim": 2 * WIDTH, **added, **changes})
    pipeline = StableDiffusionXLPipeline(
        vae=_vae(0.13025),
        text_encoder=seeded(CLIPTextModel(_text())),
        text_encoder_2=seeded(CLIPTextModelWithProjection(_text(projection_dim=WIDTH))),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet,
        scheduler=_scheduler("epsilon"),
        add_watermarker=False,
    )
    return _save(pipeline, folder)


def _save(pipeline: Any, folder: Path) -> str:
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return str(folder)


def _unet(**changes: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 8,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**settings, **changes})


def _vae(scale: float) -> AutoencoderKL:
    settings: dict[str, Any] = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
        "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
    }
    return AutoencoderKL(
        **settings, latent_channels=4, norm_num_groups=8, sample_size=16, scaling_factor=scale
    )


def _text(**changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=514,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
        **changes,
    )


def _scheduler(prediction: Any) -> Any:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
