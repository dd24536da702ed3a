"""The names of open_clip's weights in transformers' CLIP."""

import re
from collections.abc import Mapping

from torch import Tensor

from ctcontrol import CtcontrolError

_PLACES = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
}
_NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # so spelt in transformers
    "visual.ln_post": "vision_model.post_layernorm",
}
_TRANSPOSED = {
    "text_projection": "text_projection.weight",
    "visual.proj": "visual_projection.weight",
}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


def from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of `transformers.CLIPModel`.

    Projections are stored transposed there, and query, key and value apart.

    Raises:
        CtcontrolError: for a name that open_clip's CLIP does not have.
    """
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name != "attn_mask":  # a constant
            renamed |= _renamed(name, value)
    return renamed


def _renamed(name: str, value: Tensor) -> dict[str, Tensor]:
    if name in _PLACES:
        return {_PLACES[name]: value}
    if name in _TRANSPOSED:
        return {_TRANSPOSED[name]: value.T.contiguous()}
    where, _, kind = name.rpartition(".")
    if where in _NORMS:
        return {f"{_NORMS[where]}.{kind}": value}
    if match := _BLOCK.fullmatch(name):
        tower = "vision_model" if match[1] else "text_model"
        block = f"{tower}.encoder.layers.{match[2]}"
        inner, _, kind = match[3].rpartition(".")
        if inner in _IN_BLOCK:
            return {f"{block}.{_IN_BLOCK[inner]}.{kind}": value}
        if match[3] in ("attn.in_proj_weight", "attn.in_proj_bias"):
            kind = match[3].removeprefix("attn.in_proj_")
            parts = zip("qkv", value.chunk(3), strict=True)
            return {f"{block}.self_attn.{p}_proj.{kind}": part.clone() for p, part in parts}
    raise CtcontrolError(f"{name!r} is no weight of open_clip's CLIP; is the file another model's?")
