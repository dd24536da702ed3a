"""Adapters as other programs wrote them: PEFT folders, attention processors, today's diffusers."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.publish._factors import Factor
from ctcontrol_diffusion.tensor_files import read_tensors

CONFIG = "adapter_config.json"
PEFT = ("adapter_model.safetensors", "adapter_model.bin")
DIFFUSERS = ("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
METADATA = "lora_adapter_metadata"
"""Where diffusers keeps the config of an adapter inside of a safetensors file."""

_PREFIX = re.compile(r"^(base_model\.model\.)?(unet\.)?")
_SIDES = {"A": "down", "B": "up"}
_KEYS = (
    re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight"),
    re.compile(r"(?P<module>.+)\.lora\.(?P<side>down|up)\.weight"),
    re.compile(
        r"(?P<module>.+)\.processor\.(?P<projection>to_[qkv]|to_out)_lora\.(?P<side>down|up)"
        r"\.weight"
    ),
)
_ALPHA = re.compile(r"(?P<module>.+?)(\.lora)?\.alpha")


def read_factors(source: Path) -> dict[str, Factor]:
    """The factors of an adapter with alpha/rank multiplied in, float32.

    Args:
        source: a folder that PEFT wrote (adapter_config.json beside adapter_model.safetensors), a
            folder or file of diffusers (pytorch_lora_weights.safetensors or .bin), that of the
            attention processors of ddpo-pytorch and diffusers 0.17 included. Of pickled files
            nothing but tensors is read.

    Raises:
        CtcontrolError: there is nothing of the kind; a key is not known, which it names; a setting
            of the adapter is more than low-rank factors.
    """
    file = _file(source)
    tensors, config = read_tensors(file), _config(file)
    sides: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, value in tensors.items():
        name = _PREFIX.sub("", key)
        alpha = _ALPHA.fullmatch(name)
        if alpha is not None and value.numel() == 1:
            alphas[alpha["module"]] = float(value)
            continue
        found = next((m for m in (pattern.fullmatch(name) for pattern in _KEYS) if m), None)
        if found is None:
            raise CtcontrolError(
                f"{file} holds {key}, which is no low-rank factor of a UNet that is known here; "
                "convert takes PEFT adapters and attention processors of UNets alone"
            )
        side = _SIDES.get(found["side"], found["side"])
        sides.setdefault(_module(found), {})[side] = value.float()
    _check_alphas(alphas, sides, file)
    return {
        name: _factor(name, pair, alphas.get(name), config, file) for name, pair in sides.items()
    }


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    if not source.is_dir():
        raise CtcontrolError(f"there is no {source}; give the folder or the file of an adapter")
    names = PEFT if (source / CONFIG).is_file() else DIFFUSERS
    for name in names:
        if (source / name).is_file():
            return source / name
    raise CtcontrolError(
        f"{source} holds no adapter: neither {CONFIG} with {PEFT[0]}, nor {' or '.join(DIFFUSERS)}"
    )


def _module(found: re.Match[str]) -> str:
    projection = found.groupdict().get("projection")
    if projection is None:
        return found["module"]
    return f"{found['module']}.{'to_out.0' if projection == 'to_out' else projection}"


def _config(file: Path) -> Mapping[str, Any]:
    """The settings of the adapter, empty where there are none, and then alpha is the rank."""
    beside = file.with_name(CONFIG)
    if file.name in PEFT and not beside.is_file():
        raise CtcontrolError(f"{CONFIG} is missing beside {file}; alpha, the strength, is in it")
    try:
        if file.name in PEFT:
            found = json.loads(beside.read_bytes())
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                found = json.loads((opened.metadata() or {}).get(METADATA, "{}"))
        else:
            found = {}
        config = {str(key).removeprefix("unet."): value for key, value in found.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise CtcontrolError(f"the config of the adapter {file} cannot be read: {error}") from None
    wanted: dict[str, tuple[Any, ...]] = {
        "peft_type": ("LORA",),
        "use_dora": (False, None),
        "bias": ("none",),
        "lora_bias": (False, None),
        "modules_to_save": (None, []),
    }
    for key, values in wanted.items():
        if key in config and config[key] not in values:
            raise CtcontrolError(
                f"the adapter {file} has {key} = {config[key]!r}, which is more than low-rank "
                "factors and has no place in files of diffusers"
            )
    return config


def _check_alphas(alphas: Mapping[str, float], sides: Mapping[str, object], file: Path) -> None:
    for name in alphas.keys() - sides.keys():
        raise CtcontrolError(f"{file} holds {name}.alpha, but no factors of {name}")


def _factor(
    name: str,
    pair: Mapping[str, Tensor],
    alpha: float | None,
    config: Mapping[str, Any],
    file: Path,
) -> Factor:
    for side in ("down", "up"):
        if side not in pair:
            raise CtcontrolError(f"{file} has only one factor of {name}; its {side} is missing")
    down, up = pair["down"], pair["up"]
    if up.ndim != down.ndim or up.shape[1] != down.shape[0] or up[0, 0].numel() != 1:
        raise CtcontrolError(
            f"the factors of {name} in {file} are {tuple(down.shape)} and {tuple(up.shape)}, which "
            "do not make a matrix"
        )
    factor = Factor(down, up)
    return factor.scaled(_scale(name, factor.rank, alpha, config, file))


def _scale(
    name: str, rank: int, alpha: float | None, config: Mapping[str, Any], file: Path
) -> float:
    """alpha/rank, or alpha/√rank of a rank-stabilized adapter."""
    if alpha is None:
        alpha = config.get("lora_alpha", rank)
        for pattern, value in (config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", name):
                alpha = value
                break
    if not isinstance(alpha, int | float):
        raise CtcontrolError(
            f"lora_alpha of {name} in the config of {file} is {alpha!r}, no number"
        )
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
