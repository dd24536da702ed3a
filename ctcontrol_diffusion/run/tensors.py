"""Modules and optimizers as flat tensors, and back with every name and shape checked."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError

Flat = dict[str, Tensor]
"""What safetensors can hold."""


def module_tensors(module: nn.Module) -> Flat:
    """Trainable parameters and persistent buffers; frozen parameters come from their own files."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {name: _plain(v) for name, v in module.state_dict().items() if name not in frozen}


def check_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Check that `tensors` is what `module_tensors` makes of this module.

    Raises:
        CtcontrolError: a tensor is missing, unknown or of another shape or dtype.
    """
    current = module_tensors(module)
    for name in sorted(current.keys() ^ tensors.keys()):
        raise CtcontrolError(f"tensor {name} is {'missing' if name in current else 'unknown'}")
    for name, value in current.items():
        new = tensors[name]
        if new.shape != value.shape or new.dtype != value.dtype:
            raise CtcontrolError(
                f"{name} is {tuple(new.shape)} {new.dtype}, but should be {tuple(value.shape)} "
                f"{value.dtype}"
            )


def optimizer_tensors(state: Mapping[str, Any]) -> tuple[Flat, dict[str, Any]]:
    """`optimizer.state_dict()` as (tensors, everything else as plain values)."""
    tensors: Flat = {}
    plain: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{name}"] = _plain(value)
            else:
                plain[f"{index}/{name}"] = value
    return tensors, {"groups": state["param_groups"], "plain": plain}


def optimizer_state(
    tensors: Mapping[str, Tensor], rest: Mapping[str, Any], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The inverse of `optimizer_tensors`, for `optimizer`.

    Raises:
        CtcontrolError: the groups or shapes are those of another optimizer.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    groups = [dict(group) for group in rest["groups"]]
    if [len(g["params"]) for g in groups] != [len(g["params"]) for g in optimizer.param_groups]:
        raise CtcontrolError("the optimizer's state is for other parameters")
    for saved, current in zip(groups, optimizer.param_groups, strict=True):
        if saved.keys() != current.keys():
            raise CtcontrolError("the optimizer's state is of another kind of optimizer")
        saved |= {key: tuple(v) for key, v in saved.items() if isinstance(current[key], tuple)}
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *rest["plain"].items()]:
        index, _, name = key.partition("/")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise CtcontrolError(
                f"the optimizer's state names parameter {index}, which is not there"
            )
        if isinstance(value, Tensor):
            if value.ndim and value.shape != parameters[int(index)].shape:
                raise CtcontrolError(
                    f"the optimizer's state has another shape for parameter {index}"
                )
            value = value.clone()  # out of the file's buffer, aligned as a fresh one is
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": groups}


def fingerprint(modules: Mapping[str, nn.Module]) -> str:
    """SHA-256 of names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for prefix, module in modules.items():
        for name, value in module.state_dict().items():
            plain = _plain(value)
            digest.update(f"{prefix}.{name}:{plain.dtype}:{tuple(plain.shape)}".encode())
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True).contiguous()
