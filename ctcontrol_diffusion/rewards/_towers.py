"""Loading of the networks that rewards stand on: hub ids or paths, no pickle, every key checked."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.tensor_files import read_tensors as read_tensors

M = TypeVar("M", bound=nn.Module)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(name: str) -> torch.dtype:
    """float32, bfloat16 or float16; raises `CtcontrolError` for another name."""
    if name not in _DTYPES:
        raise CtcontrolError(f"dtype of a reward must be one of {', '.join(_DTYPES)}, got {name!r}")
    return _DTYPES[name]


def frozen(module: M, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> M:
    """The module itself, in evaluation mode and without trainable weights, moved."""
    return module.eval().requires_grad_(False).to(device=device, dtype=dtype)


def find_file(where: str | Path, name: str, what: str) -> Path:
    """A file: `where` itself, `name` in the folder `where`, or `name` in the hub model `where`.

    Raises:
        CtcontrolError: when there is no such file, or the hub has not or cannot be reached.
    """
    path = Path(where).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        if (path / name).is_file():
            return path / name
        raise CtcontrolError(f"the folder {path} has no {name}, which {what} needs; give its path")
    from transformers.utils.hub import cached_file

    found = _from_hub(lambda: cached_file(str(where), name), where, what)
    if found is None:
        raise CtcontrolError(f"the hub model {where!r} has no file {name}, which {what} needs")
    return Path(found)


def fill(module: M, tensors: Mapping[str, Tensor], origin: object) -> M:
    """The module with `tensors` as its weights; names and shapes must agree one for one.

    Raises:
        CtcontrolError: when a name is missing or unknown, or a shape differs.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CtcontrolError(
            f"the weights {origin} do not fit: {len(missing)} names are missing"
            f"{_first(missing)} and {len(unknown)} are unknown{_first(unknown)}"
        )
    for name, value in tensors.items():
        if value.shape != own[name].shape:
            raise CtcontrolError(
                f"the weights {origin} do not fit: {name} has shape {tuple(value.shape)} instead "
                f"of {tuple(own[name].shape)}"
            )
    module.load_state_dict(dict(tensors))
    return module


def pretrained(kind: Any, where: str, what: str) -> Any:
    """`kind.from_pretrained(where)` of a tokenizer or configuration of transformers.

    Raises:
        CtcontrolError: when the hub or path has none.
    """
    return _from_hub(lambda: kind.from_pretrained(where), where, what)


def pretrained_model(kind: Any, where: str, what: str, dtype: torch.dtype) -> Any:
    """`kind.from_pretrained(where)` of a model of transformers, complete or refused.

    transformers itself only warns of weights that a checkpoint lacks, and draws them at random.

    Raises:
        CtcontrolError: when the hub or path has no such model, when it is of another kind, or
            lacks weights.
    """
    asked = kind.config_class.model_type
    config, _ = _from_hub(lambda: kind.config_class.get_config_dict(where), where, what)
    if config.get("model_type") != asked:
        raise CtcontrolError(
            f"{what} needs a model of kind {asked!r}, but {where!r} is of kind "
            f"{config.get('model_type')!r}; name another"
        )
    model, report = _from_hub(
        lambda: kind.from_pretrained(where, output_loading_info=True, dtype=dtype), where, what
    )
    missing = sorted(report["missing_keys"])
    if missing:
        raise CtcontrolError(
            f"{where!r} lacks {len(missing)} weights of {what}{_first(missing)}; name another"
        )
    return model


def _from_hub(load: Callable[[], Any], where: object, what: str) -> Any:
    try:
        return load()
    except (OSError, ValueError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise CtcontrolError(
            f"{what} needs {str(where)!r}, which is neither here nor reachable on the hub "
            f"({reason.rstrip('. ')}); download it where there is a network and give its path"
        ) from error


def _first(names: list[str]) -> str:
    return f" (first {names[0]})" if names else ""
