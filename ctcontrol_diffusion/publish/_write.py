"""Writing adapters and pipelines of diffusers, and loading them again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol_diffusion.publish._compare import (
    Mismatch,
    Published,
    compare_changes,
    compared,
    draw,
    loaded,
)
from ctcontrol_diffusion.publish._factors import (
    Factors,
    changed,
    check_fit,
    factors_of,
    of_one_rank,
    plain_weights,
)

_LORA = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained({base!r})
pipeline.load_lora_weights("{folder}")"""

_PIPELINE = """from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("{folder}")"""


def publish_lora(network: nn.Module, model: str, folder: Path, prompts: Sequence[str]) -> Published:
    """Write the adapters in a network as pytorch_lora_weights.safetensors into `folder`.

    alpha/rank is multiplied into B, so that a reader that ignores alpha gets the right strength.
    Then a fresh pipeline of `model` loads them, its changes BA are compared with those of the
    network, and its images with the network's.

    Args:
        network: a `UNet2DConditionModel` with adapters; its weights become float32.
        model: folder or hub id of the pipeline that it comes from.
        folder: exists.
        prompts: of the images compared.

    Raises:
        Mismatch: what is loaded is not what was written.
        OSError: the folder cannot be written.
    """
    frozen = [p.dtype for name, p in network.named_parameters() if ".lora_" not in name]
    pipeline = loaded(model, _device(network), frozen[0])
    factors = factors_of(network)
    return _publish(factors, network.to(torch.float32), pipeline, model, folder, prompts)


def publish_factors(
    factors: Factors,
    source: Path,
    model: str,
    folder: Path,
    prompts: Sequence[str],
    device: torch.device | str = "cpu",
) -> Published:
    """The same for factors without a network: what is compared with is the model with W + BA.

    Raises:
        CtcontrolError: they do not fit the model.
        Mismatch, OSError: as `publish_lora`.
    """
    pipeline = loaded(model, device)
    check_fit(factors, pipeline.unet, source, model)
    network = type(pipeline.unet).from_config(pipeline.unet.config).to(device)
    network.load_state_dict(changed(pipeline.unet.state_dict(), factors))
    return _publish(factors, network.eval(), pipeline, model, folder, prompts)


def _publish(
    factors: Factors,
    network: nn.Module,
    pipeline: Any,
    model: str,
    folder: Path,
    prompts: Sequence[str],
) -> Published:
    _write(factors, pipeline, folder)
    base = draw(pipeline, prompts)
    pipeline.load_lora_weights(folder)
    compare_changes(pipeline.unet, factors)
    theirs = draw(pipeline, prompts)
    pipeline.unet = network
    found = compared(theirs, draw(pipeline, prompts), base)
    return Published("lora", model, _usage(_LORA, model), *found)


def _write(factors: Factors, pipeline: Any, folder: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for name, factor in of_one_rank(factors).items():
        tensors[f"{name}.lora_A.weight"] = factor.down
        tensors[f"{name}.lora_B.weight"] = factor.up.contiguous()
    # In peft's names: those of diffusers' convert_state_dict_to_diffusers are other ones for
    # attention than for convolutions, and of a file with both only one kind is loaded.
    pipeline.save_lora_weights(folder, unet_lora_layers=tensors, safe_serialization=True)


def publish_pipeline(
    network: nn.Module, model: str, folder: Path, prompts: Sequence[str] = ()
) -> Published:
    """Write the whole pipeline of `model` with this network into `folder`.

    Adapters are added to the weights that they stand beside. Then the folder is loaded as a fresh
    pipeline, its weights are compared bit for bit, and its images with the network's.

    Args:
        network: a UNet of diffusers; its weights become float32.
        model: folder or hub id of the pipeline that it comes from.
        folder: exists.
        prompts: of the images compared, for pipelines that take some.

    Raises:
        Mismatch: what is loaded is not what was written.
        OSError: the folder cannot be written.
    """
    weights = plain_weights(network.to(torch.float32))
    pipeline = loaded(model, _device(network), whole=True)
    base = draw(pipeline, prompts)
    pipeline.unet.load_state_dict(weights)
    pipeline.save_pretrained(folder)
    pipeline.unet = network
    ours = draw(pipeline, prompts)
    del pipeline
    again = loaded(str(folder), _device(network))
    for name, value in again.unet.state_dict().items():
        if not torch.equal(value.cpu(), weights[name]):
            raise Mismatch(f"the weight {name} was written and loaded with an error")
    difference, effect = compared(draw(again, prompts), ours, base)
    return Published("pipeline", model, _PIPELINE, difference, effect)


def _usage(template: str, base: str) -> str:
    return template.replace("{base!r}", repr(base))


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
