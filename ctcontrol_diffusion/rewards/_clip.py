"""Agreement of image and prompt by CLIP: CLIP score, PickScore, HPS v2."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctcontrol import CtcontrolError, check_count, check_positive
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards
from ctcontrol_diffusion.rewards._open_clip import from_open_clip
from ctcontrol_diffusion.rewards._resize import crop_and_normalise
from ctcontrol_diffusion.rewards._towers import (
    dtype_of,
    fill,
    find_file,
    frozen,
    pretrained,
    pretrained_model,
    read_tensors,
)

Embeddings = Float[Tensor, "n d"]

CLIP_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


@dataclass(frozen=True, eq=False)
class ClipEncoder:
    """Unit vectors of images and texts in the common space of a CLIP model.

    Attributes:
        model: a `transformers.CLIPModel` in evaluation mode; computes in its own dtype, on its own
            device.
        tokenizer: of transformers.
        rows: images or texts encoded together; bounds the memory.

    Raises:
        CtcontrolError: for a model in training mode or a bad number of rows.
    """

    model: Any
    tokenizer: Any
    rows: int = 32

    def __post_init__(self) -> None:
        check_count("rows of a CLIP encoder", self.rows)
        if self.model.training:
            raise CtcontrolError("the CLIP model is in training mode; call its eval() first")

    def images(self, images: Images) -> Embeddings:
        """Image embeddings, float32; differentiable in the pixels."""
        size, weight = self.model.config.vision_config.image_size, self.model.logit_scale
        parts = [
            self.model.get_image_features(
                pixel_values=crop_and_normalise(part.to(weight.device), size).to(weight.dtype)
            )
            for part in images.split(self.rows)
        ]
        return _unit(parts).to(images.device)

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> Embeddings:
        """Text embeddings, float32, on the model's device; equal prompts are encoded once.

        A text is cut at the model's number of tokens (77).
        """
        unique = list(dict.fromkeys(prompts))
        length = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(
            unique, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        ).to(self.model.logit_scale.device)
        parts = [
            self.model.get_text_features(input_ids=ids, attention_mask=mask)
            for ids, mask in zip(
                tokens["input_ids"].split(self.rows),
                tokens["attention_mask"].split(self.rows),
                strict=True,
            )
        ]
        row = {prompt: i for i, prompt in enumerate(unique)}
        return _unit(parts)[[row[prompt] for prompt in prompts]]


def _unit(parts: list[Any]) -> Tensor:
    # Projected features as a tensor, or in an output object, by version of transformers.
    features = torch.cat([getattr(part, "pooler_output", part) for part in parts])
    return nn.functional.normalize(features.float(), dim=-1)


@dataclass(frozen=True, eq=False)
class ClipScore:
    """scale · cos(image, prompt), the cosine of CLIP's embeddings. Differentiable.

    The same formula, with other weights and scale, is PickScore (:func:`pick_score`) and HPS v2
    (:func:`hps_v2`). `info` holds `cosine`.

    Attributes:
        encoder: of images and prompts.
        scale: > 0.
    """

    encoder: ClipEncoder
    scale: float = 1.0

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive("scale of the CLIP score", self.scale)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        cosine = (self.encoder.images(images) * self.encoder.texts(prompts).to(images.device)).sum(
            1
        )
        return self.scale * cosine, {"cosine": cosine.detach()}


def load_clip(
    model: str, tokenizer: str, what: str, *, rows: int, device: str, dtype: str
) -> ClipEncoder:
    """A frozen encoder from hub ids or paths; raises `CtcontrolError` where there is none."""
    from transformers import AutoTokenizer, CLIPModel

    network = pretrained_model(CLIPModel, model, what, dtype_of(dtype))
    words = pretrained(AutoTokenizer, tokenizer, what)
    known = network.config.text_config.vocab_size
    if not 2 < len(words) <= known:  # transformers makes an empty tokenizer of files it overlooks
        raise CtcontrolError(
            f"the tokenizer {tokenizer!r} has {len(words)} tokens and {model!r} knows {known}; "
            "name the tokenizer that the model was trained with"
        )
    return ClipEncoder(frozen(network, device), words, rows)


def clip_score(
    *,
    model: str = "openai/clip-vit-large-patch14",
    scale: float = 1.0,
    rows: int = 32,
    device: str = "cpu",
    dtype: str = "float32",
) -> ClipScore:
    """The cosine of a CLIP model, most often between 0.1 and 0.4.

    Others multiply: by 100 (torchmetrics), or by 2.5 after cutting at 0 (Hessel et al. 2021,
    "CLIPScore", which also puts "A photo depicts" before the text); see `scale`.
    """
    encoder = load_clip(model, model, "clip-score", rows=rows, device=device, dtype=dtype)
    return ClipScore(encoder, scale)


def pick_score(
    *,
    model: str = "yuvalkirstain/PickScore_v1",
    tokenizer: str = CLIP_H,
    rows: int = 32,
    device: str = "cpu",
    dtype: str = "float32",
) -> ClipScore:
    """PickScore, exp(τ) · cos with the model's own temperature τ, about 20 to 22.

    Kirstain et al. 2023, "Pick-a-Pic". A difference of two scores is a log-odds of preference.
    Some who train on it divide by 26.
    """
    encoder = load_clip(model, tokenizer, "pickscore", rows=rows, device=device, dtype=dtype)
    return ClipScore(encoder, math.exp(float(encoder.model.logit_scale)))


def hps_v2(
    *,
    weights: str = "xswu/HPSv2",
    file: str = "HPS_v2.1_compressed.pt",
    model: str = CLIP_H,
    rows: int = 32,
    device: str = "cpu",
    dtype: str = "float32",
) -> ClipScore:
    """HPS v2, the cosine under weights tuned on human preferences, about 0.2 to 0.35.

    Wu et al. 2023, "Human Preference Score v2". The weights are published for open_clip and are
    renamed one for one (:func:`from_open_clip`); `model` gives architecture and tokenizer only, so
    that its own weights are not downloaded. `file` HPS_v2_compressed.pt is version 2.0.

    Raises:
        CtcontrolError: when files are missing or the weights do not fit the architecture.
    """
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel

    path = find_file(weights, file, "hps-v2")
    config = pretrained(CLIPConfig, model, "hps-v2")
    words = pretrained(AutoTokenizer, model, "hps-v2")
    tensors = from_open_clip(read_tensors(path))
    with torch.random.fork_rng(devices=[]):  # initial weights, replaced at once
        network = fill(CLIPModel(config), tensors, path)
    return ClipScore(ClipEncoder(frozen(network, device, dtype_of(dtype)), words, rows))
