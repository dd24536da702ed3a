"""Files of named tensors from elsewhere, read without running any code in them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ctcontrol import CtcontrolError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a state dictionary saved by torch, on the CPU.

    A dictionary under the key `state_dict` is taken out of what surrounds it. Nothing but tensors
    and plain containers is ever unpickled (`weights_only`).

    Raises:
        CtcontrolError: when the file cannot be read or holds anything but named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise CtcontrolError(f"{path} is not a readable weights file: {reason}") from error
    except Exception as error:  # torch's own UnpicklingError has no public name
        raise CtcontrolError(
            f"{path} holds more than tensors, and what could run code is not loaded; save its "
            "state_dict() anew, best as safetensors"
        ) from error
    if isinstance(held, Mapping) and "state_dict" in held:
        held = held["state_dict"]
    if not isinstance(held, Mapping) or not all(isinstance(v, Tensor) for v in held.values()):
        raise CtcontrolError(f"{path} holds no state dictionary of named tensors")
    return {str(key): value for key, value in held.items()}
