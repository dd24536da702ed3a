"""Small random CLIP and BLIP models on disk, in the layouts of the published ones."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import BertTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

PROMPTS = ["a cat", "a red bus in the rain", "a cat"]


def seeded(module: torch.nn.Module, seed: int = 1) -> Any:
    """The module with weights that are all random, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            scale = 1 / weight.shape[-1] ** 0.5 if weight.ndim > 1 else 0.3
            noise = scale * torch.randn(weight.shape, generator=generator)
            weight.copy_(noise + (1.0 if "norm" in name.lower() and "weight" in name else 0.0))
    return module.eval()


def clip_tokenizer() -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer({w: i for i, w in enumerate(words)}, [], model_max_length=77)
    assert len(tokenizer) == 514
    return tokenizer


def clip_config(width: int = 24) -> CLIPConfig:
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": width}
    sizes = {"hidden_size": 16, "intermediate_size": 32, "hidden_act": "gelu"}
    text = {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    return CLIPConfig(
        text_config={**sizes, **layers, **text},
        vision_config={**sizes, **layers, "hidden_size": 20, "image_size": 16, "patch_size": 8},
        projection_dim=width,
    )


def save_clip(folder: Path, width: int = 24) -> CLIPModel:
    model = seeded(CLIPModel(clip_config(width)))
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    model.save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return model


def bert_tokenizer() -> BertTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, "a", "cat", "red", "bus", "in", "the", "rain"]
    return BertTokenizer({word: i for i, word in enumerate(words)})


def images(n: int = 3, size: int = 16, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))
