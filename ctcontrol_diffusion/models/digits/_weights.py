"""Weights on disk: safetensors that name their kind and architecture, written atomically."""

import json
import os
import uuid
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ctcontrol import CtcontrolError


def save_weights(
    module: nn.Module,
    path: str | Path,
    *,
    kind: str,
    architecture: Mapping[str, Any],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Writes ``module`` as safetensors of ``dtype``; ``path`` appears complete or not at all.

    Half precision halves the file. Relative rounding error is 2^-11, far below what training
    leaves undetermined, and :func:`load_weights` widens to float32 again.

    Raises:
        CtcontrolError: when the file cannot be written.
    """
    path = Path(path)
    tensors = {
        name: value.detach().to("cpu", dtype).contiguous()
        for name, value in module.state_dict().items()
    }
    # One entry, since safetensors writes several in random order: equal weights, equal bytes.
    model = json.dumps({"kind": kind, "architecture": dict(architecture)}, sort_keys=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        save_file(tensors, temporary, metadata={"model": model})
        temporary.chmod(0o644)  # safetensors writes for the owner alone; shipped files are for all
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise CtcontrolError(f"cannot write the weights {path}: {error}") from error


def read_weights(path: str | Path, *, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Architecture and float32 tensors of a file written by :func:`save_weights`.

    Raises:
        CtcontrolError: when the file is missing, not safetensors, of another kind, or not
            finite.
    """
    path = Path(path)
    if not path.is_file():
        raise CtcontrolError(f"no weights at {path}; leave the path out for those shipped")
    try:
        with safe_open(path, framework="pt") as file:
            model = json.loads((file.metadata() or {}).get("model", "{}"))
            if model.get("kind") != kind:
                raise CtcontrolError(
                    f"{path} holds {model.get('kind', 'weights of unknown origin')!r}, "
                    f"not {kind!r}; give a file written by the pretrain command"
                )
            architecture = dict(model["architecture"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    except CtcontrolError:
        raise
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise CtcontrolError(f"{path} is not a readable weights file: {error}") from error
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise CtcontrolError(f"{path} holds NaN or infinite numbers in {name}; make it anew")
    return architecture, tensors


def read_shipped(name: str, *, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """:func:`read_weights` for a file among the package's own assets."""
    with as_file(files("ctcontrol_diffusion.models.digits") / "assets" / name) as path:
        return read_weights(path, kind=kind)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], origin: object) -> None:
    """Loads ``tensors`` into ``module``, every name and shape checked.

    Raises:
        CtcontrolError: when names or shapes differ.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CtcontrolError(f"the weights {origin} do not fit the network: {reason}") from error
