"""ImageReward: a BLIP that reads the prompt while looking at the image, and rates."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError, check_count
from ctcontrol_diffusion.rewards._aesthetic import ScoreHead
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards
from ctcontrol_diffusion.rewards._resize import crop_and_normalise
from ctcontrol_diffusion.rewards._towers import (
    dtype_of,
    fill,
    find_file,
    frozen,
    pretrained,
    read_tensors,
)

# Mean and standard deviation of the raw score, published in ImageReward/ImageReward.py.
MEAN, STD = 0.16717362830052426, 1.0333394966054072
TOKENS = 35
HEAD_SIZE = 64  # of every attention head of BLIP, base and large, image and text

_VISION = (
    (r"cls_token", "embeddings.class_embedding"),
    (r"pos_embed", "embeddings.position_embedding"),
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embedding.\1"),
    (r"blocks\.(\d+)\.norm([12])\.(\w+)", r"encoder.layers.\1.layer_norm\2.\3"),
    (r"blocks\.(\d+)\.attn\.qkv\.(\w+)", r"encoder.layers.\1.self_attn.qkv.\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"encoder.layers.\1.self_attn.projection.\2"),
    (r"blocks\.(\d+)\.mlp\.(fc[12]\.\w+)", r"encoder.layers.\1.mlp.\2"),
    (r"norm\.(\w+)", r"post_layernorm.\1"),
)


class ImageRewardNetwork(nn.Module):
    """Pixels and tokens -> score, (n,), of transformers' BLIP encoders and the published head.

    (head(h) − 0.1672) / 1.0333 with h the first token's last hidden state of the text encoder,
    which attends to all image tokens.

    Attributes:
        vision: a `transformers.BlipVisionModel`.
        text: a `transformers.BlipTextModel` with cross attention.
        head: of the text's width.
    """

    vision: Any
    text: Any

    def __init__(self, vision: Any, text: Any, head: ScoreHead) -> None:
        super().__init__()
        self.vision, self.text, self.head = vision, text, head

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Scores of normalised pixels (n, 3, size, size), token ids and mask (n, tokens)."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(
                seen.shape[:-1], dtype=mask.dtype, device=seen.device
            ),
        )
        return (self.head(read.last_hidden_state[:, 0].float()) - MEAN) / STD


@dataclass(frozen=True, eq=False)
class ImageReward:
    """The rating of an image for its prompt, about −2.5 to 2, mean 0 on its own data.

    Xu et al. 2023, "ImageReward: Learning and Evaluating Human Preferences for Text-to-Image
    Generation". Differentiable. Prompts are cut at 35 tokens, as published.

    Attributes:
        network: in evaluation mode; its encoders compute in their own dtype.
        tokenizer: bert-base-uncased of transformers.
        rows: images rated together; bounds the memory.

    Raises:
        CtcontrolError: for a network in training mode or a bad number of rows.
    """

    network: ImageRewardNetwork
    tokenizer: Any
    rows: int = 32

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("rows of image-reward", self.rows)
        if self.network.training:
            raise CtcontrolError("the network of image-reward is in training mode; call eval()")

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        weight = next(self.network.vision.parameters())
        size = int(self.network.vision.config.image_size)
        tokens = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        ).to(weight.device)
        parts = zip(
            images.split(self.rows),
            tokens["input_ids"].split(self.rows),
            tokens["attention_mask"].split(self.rows),
            strict=True,
        )
        scores = [
            self.network(
                crop_and_normalise(part.to(weight.device), size).to(weight.dtype), ids, mask
            )
            for part, ids, mask in parts
        ]
        return torch.cat(scores).to(images.device), {}


def network_from_published(tensors: Mapping[str, Tensor], origin: object) -> ImageRewardNetwork:
    """The network of a state dictionary in the published layout of `ImageReward.pt`.

    Sizes are read from the shapes. Under `blip.visual_encoder.`, `blip.text_encoder.` and `mlp.`
    every weight must have its place and every place its weight; BLIP's projections outside, which
    no score uses, are left.

    Raises:
        CtcontrolError: when that fails.
    """
    from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

    seen, read, head = (
        _under(tensors, part) for part in ("blip.visual_encoder.", "blip.text_encoder.", "mlp.")
    )
    read.pop("embeddings.position_ids", None)  # a constant
    try:
        width, patch = seen["cls_token"].shape[-1], seen["patch_embed.proj.weight"].shape[-1]
        vision = BlipVisionConfig(
            hidden_size=width,
            intermediate_size=len(seen["blocks.0.mlp.fc1.weight"]),
            num_hidden_layers=_count(seen, r"blocks\.(\d+)\."),
            num_attention_heads=width // HEAD_SIZE,
            image_size=patch * math.isqrt(seen["pos_embed"].shape[1] - 1),
            patch_size=patch,
            layer_norm_eps=1e-6,
        )
        vocabulary, hidden = read["embeddings.word_embeddings.weight"].shape
        text = BlipTextConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            encoder_hidden_size=width,
            intermediate_size=len(read["encoder.layer.0.intermediate.dense.weight"]),
            num_hidden_layers=_count(read, r"encoder\.layer\.(\d+)\."),
            num_attention_heads=hidden // HEAD_SIZE,
            max_position_embeddings=len(read["embeddings.position_embeddings.weight"]),
            bos_token_id=None,
            sep_token_id=None,
            eos_token_id=None,
            is_decoder=True,  # that is, with cross attention
        )
    except KeyError as error:
        raise CtcontrolError(
            f"{origin} has no weight {error.args[0]!r} of an ImageReward; is it ImageReward.pt?"
        ) from error
    with torch.random.fork_rng(devices=[]):  # initial weights, replaced at once
        return ImageRewardNetwork(
            fill(BlipVisionModel(vision), _renamed(seen, origin), origin),
            fill(BlipTextModel(text, add_pooling_layer=False), read, origin),
            fill(ScoreHead(hidden), head, origin),
        )


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return 1 + max(int(m[1]) for m in (re.match(pattern, k) for k in tensors) if m)


def _renamed(tensors: Mapping[str, Tensor], origin: object) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        places = [re.sub(a, b, name) for a, b in _VISION if re.fullmatch(a, name)]
        if not places:
            raise CtcontrolError(f"{origin} has {name!r}, which BLIP's image encoder has not")
        renamed[places[0]] = value
    return renamed


def image_reward(
    *,
    weights: str = "THUDM/ImageReward",
    file: str = "ImageReward.pt",
    tokenizer: str = "google-bert/bert-base-uncased",
    rows: int = 32,
    device: str = "cpu",
    dtype: str = "float32",
) -> ImageReward:
    """ImageReward v1.0 from the published file, by path or from the hub model `weights`.

    Raises:
        CtcontrolError: when files are missing or do not fit.
    """
    from transformers import AutoTokenizer

    path = find_file(weights, file, "image-reward")
    words = pretrained(AutoTokenizer, tokenizer, "image-reward")
    network = frozen(network_from_published(read_tensors(path), path), device)
    for tower in (network.vision, network.text):
        tower.to(dtype_of(dtype))
    return ImageReward(network, words, rows)
