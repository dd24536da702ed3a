"""The processes that a launcher (torchrun) started together, as a collective of ctcontrol."""

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from ctcontrol import Alone, Collective, CtcontrolError, PeerFailure

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others in the middle of an iteration."""
SMALL = 1 << 16
"""Numbers up to which tensors are summed together: one message costs as much as so many."""


class Processes(Collective):
    """All of them, by torch.distributed: gloo for tensors on the CPU, NCCL for those on GPUs."""

    @property
    def rank(self) -> int:
        return dist.get_rank()

    @property
    def size(self) -> int:
        return dist.get_world_size()

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        found = [tensor.contiguous() for tensor in tensors]
        small: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for i, tensor in enumerate(found):
            if tensor.numel() > SMALL:
                self._reduce(tensor)
            else:
                small.setdefault((tensor.dtype, tensor.device), []).append(i)
        for places in small.values():
            flat = torch.cat([found[i].flatten() for i in places])
            self._reduce(flat)
            sizes = [found[i].numel() for i in places]
            for i, part in zip(places, flat.split(sizes), strict=True):
                found[i] = part.reshape(found[i].shape)
        return found

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        sent = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
        padded = sent.new_zeros(max(counts), *sent.shape[1:])  # all send as many rows
        padded[: len(sent)] = sent
        parts = [torch.empty_like(padded) for _ in counts]
        try:
            dist.all_gather(parts, padded)
        except RuntimeError as error:
            raise _gone(error) from None
        whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return whole.to(rows.dtype)

    @staticmethod
    def _reduce(tensor: Tensor) -> None:
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise _gone(error) from None


def join(device: str) -> Collective:
    """Meet the processes that were started together; `Alone` where there is one.

    Args:
        device: of the run. Processes on GPUs take one each, by their number on their machine.

    Raises:
        CtcontrolError: the processes cannot meet.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Alone()
    from accelerate import PartialState  # takes a second to import

    on_cpu = device == "cpu"
    backend = {} if on_cpu else {"backend": "cpu:gloo,cuda:nccl"}
    try:
        PartialState(cpu=on_cpu, timeout=TIMEOUT, **backend)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise CtcontrolError(
            f"the processes cannot meet ({reason}); start them by torchrun --nproc_per_node N, on "
            "a machine with N GPUs or with --device cpu"
        ) from None
    if not dist.is_initialized():
        raise CtcontrolError(
            f"WORLD_SIZE says {os.environ['WORLD_SIZE']} processes, but they do not know of each "
            "other; start them by torchrun --nproc_per_node N"
        )
    return Processes()


def device_of(device: str, collective: Collective) -> str:
    """The device of this process: `cuda` means a GPU for each.

    Raises:
        CtcontrolError: one GPU for all.
    """
    if collective.size == 1 or not device.startswith("cuda"):
        return device
    if device != "cuda":
        raise CtcontrolError(
            f"--device {device} is one GPU for {collective.size} processes; give --device cuda, "
            "by which each takes its own"
        )
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


def leave() -> None:
    """Part from the others, after a run that went well."""
    if dist.is_initialized():
        dist.destroy_process_group()


def meeting_place() -> dist.Store | None:
    """Where processes leave each other notes, without waiting; None for a single one."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=TIMEOUT)
    return dist.PrefixStore(f"ctcontrol/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _gone(error: RuntimeError) -> PeerFailure:
    text = str(error).splitlines()[0]
    ended = "Connection" in text or "closed" in text  # how gloo says it, and at length
    return PeerFailure("another process ended" if ended else f"processes cannot meet ({text})")
