"""What is kept, and said, when a run fails in the middle."""

import shlex
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from ctcontrol import NumericalError
from ctcontrol_diffusion.run.directory import RunDirectory
from ctcontrol_diffusion.run.files import write_atomically

BATCH = "failed_batch.safetensors"


def failure_message(error: Exception, directory: RunDirectory) -> str:
    """One sentence or two: what happened, where the batch is, how to go on."""
    again = f"then continue with {resume_command(directory.path)}"
    match error:
        case OSError():
            reason = error.strerror or error
            return f"cannot write to {directory.path} ({reason}); make room there, {again}"
        case MemoryError() | torch.OutOfMemoryError():
            return (
                "out of memory; free some, or start again with --micro-batch N, images through the "
                f"network at once{_now(directory)}; everything is kept in {directory.path}"
            )
        case NumericalError():
            saved = _save_batch(error, directory.path / BATCH)
            return (
                f"{error}{saved}; everything up to the last checkpoint is kept in {directory.path}"
            )
        case _:
            return f"{error}; everything up to the last checkpoint is kept in {directory.path}"


def _now(directory: RunDirectory) -> str:
    """The micro-batch that was too large, if there was one."""
    size = directory.config.micro_batch
    return "" if size is None else f" (N = {size} is too many)"


def resume_command(path: Path) -> str:
    """The command that continues a run."""
    return f"python -m ctcontrol_diffusion.train --resume {shlex.quote(str(path))}"


def _save_batch(error: NumericalError, path: Path) -> str:
    tensors: dict[str, Tensor] = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in error.batch.items()
    }
    if not tensors:
        return ""
    try:
        write_atomically(path, save(tensors))
    except (OSError, SafetensorError) as reason:
        return f"; the batch could not be saved ({reason})"
    return f"; the batch is in {path}"
