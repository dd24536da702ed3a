"""Pipelines of diffusers with random weights."""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

Size = Literal["sd15", "tiny"]

_UNETS: dict[Size, dict[str, Any]] = {
    "sd15": {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    "tiny": {
        "sample_size": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
        "block_out_channels": (16, 32),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "norm_num_groups": 8,
    },
}
_CHANNELS: dict[Size, tuple[int, ...]] = {"sd15": (128, 256, 512, 512), "tiny": (8, 16)}
_TEXTS: dict[Size, tuple[int, int, int, int]] = {
    "sd15": (768, 3072, 12, 12),
    "tiny": (32, 64, 2, 4),
}


def save_random(folder: Path, size: Size) -> None:
    """A `StableDiffusionPipeline` as it comes from the hub; it knows letters instead of words."""
    torch.manual_seed(0)
    width, inner, layers, heads = _TEXTS[size]
    channels = _CHANNELS[size]
    text = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    images: dict[str, Any] = {
        "block_out_channels": channels,
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
        "layers_per_block": 2 if size == "sd15" else 1,
    }
    scheduler: Any = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    nothing: Any = None  # not in the annotations, though in the documentation
    pipeline: Any = StableDiffusionPipeline(
        vae=AutoencoderKL(**images, latent_channels=4, norm_num_groups=8),
        text_encoder=CLIPTextModel(text),
        tokenizer=_tokenizer(),
        unet=UNet2DConditionModel(**_UNETS[size]),
        scheduler=scheduler,
        safety_checker=nothing,
        feature_extractor=nothing,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)


def _tokenizer() -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer({w: i for i, w in enumerate(words)}, [], model_max_length=77)
