"""Networks with adapters whose factors are not zero, as training leaves them."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from torch import Tensor

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def stirred(network: Any, size: float) -> Any:
    """All trainable weights moved."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def unet(model: str, **words: Any) -> Any:
    """The network of a saved pipeline, frozen."""
    network = UNet2DConditionModel.from_pretrained(model, subfolder="unet", **words)
    return network.eval().requires_grad_(False)


def adapted(model: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    """The same with trained LoRA, whose alpha is not its rank."""
    network = unet(model, dtype=dtype)
    given: dict[str, Any] = {"r": 4, "lora_alpha": 10, "target_modules": ATTENTION, **settings}
    network.add_adapter(LoraConfig(**given))
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return stirred(network, 0.05)


def pipeline(folder: str | Path) -> Any:
    """A pipeline of a saved one."""
    made: Any = DiffusionPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


@torch.no_grad()
def answer(network: Any) -> Tensor:
    """What a text-to-image network says to some noise and text; SDXL is told no size."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 4, 8, 8, generator=generator)
    width = network.config["cross_attention_dim"]
    text = torch.randn(2, 5, width, generator=generator)
    more: dict[str, Any] = {}
    if network.config["addition_embed_type"] is not None:
        added = {"text_embeds": text[:, 0, :32], "time_ids": torch.full((2, 6), 16.0)}
        more = {"added_cond_kwargs": added}
    return network(x, torch.tensor([400, 30]), encoder_hidden_states=text, **more).sample
