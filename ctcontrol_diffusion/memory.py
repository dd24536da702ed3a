"""How much memory a run will take, said before it starts, and what would fit."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.build import Experiment

TRIAL = 4
"""Images in the step that is measured; the rest is in proportion."""
PER_STATE = 5
"""Tensors of the size of a state that a rollout keeps a step: state, action, mean, innovation and
the mean of the pretrained model."""
DEALT = 1
"""One more while a rollout is made in parts: the noise of all paths, drawn by the first part."""
GIGABYTE = 1e9


class Meter(Protocol):
    """What memory a device has, and what a piece of work takes of it."""

    def free(self) -> int:
        """Bytes that can still be had."""
        ...

    def taken(self, work: Callable[[], object]) -> int:
        """Bytes that `work` takes at its peak."""
        ...


@dataclass(frozen=True)
class CudaMeter:
    """Asks the allocator: what is measured is what will be taken."""

    device: torch.device

    def free(self) -> int:
        """What the card has left, with what the allocator holds without need."""
        idle = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + idle

    def taken(self, work: Callable[[], object]) -> int:
        """The rise of the peak."""
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) - before


class CpuMeter:
    """Counts what autograd keeps for the backward pass, which is a little less than the peak."""

    def free(self) -> int:
        """What the system calls available."""
        return psutil.virtual_memory().available

    def taken(self, work: Callable[[], object]) -> int:
        """Bytes of tensors saved, each storage once."""
        seen: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            if not isinstance(x, nn.Parameter):
                storage = x.untyped_storage()
                seen[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            work()
        return sum(seen.values())


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, by what they are for.

    Attributes:
        networks: trained and frozen.
        optimizer: gradients, both moments of Adam, and the mean of the policy's weights if the run
            averages them.
        rollout: what a rollout keeps: `PER_STATE` tensors a step and image, in float32, and noise.
        image: activations of one image in an update of the policy.
        together: images through the network at once.
        free: what the device has for all of that; the networks are there already.
    """

    networks: int
    optimizer: int
    rollout: int
    image: int
    together: int
    free: int

    @property
    def step(self) -> int:
        """Activations of an update."""
        return self.image * self.together

    def __str__(self) -> str:
        parts = {
            "networks": self.networks,
            "gradients and optimizer": self.optimizer,
            "rollout": self.rollout,
            f"activations of {self.together} images": self.step,
        }
        said = ", ".join(f"{name} {_size(count)}" for name, count in parts.items())
        return f"memory: {said}; {_size(self.free)} free besides the networks"

    def check(self) -> "MemoryPlan":
        """Itself, if there is room.

        Raises:
            CtcontrolError: there is not; names the number of images that would fit.
        """
        left = self.free - self.optimizer - self.rollout
        if self.step <= left:
            return self
        fits = left // max(1, self.image)
        if fits >= 1:
            raise CtcontrolError(
                f"{self.together} images at once take about {_size(self.step)}, and "
                f"{_size(max(0, left))} are left for them; --micro-batch {fits} would fit"
            )
        raise CtcontrolError(
            f"a rollout keeps {_size(self.rollout)} and one image in an update takes "
            f"{_size(self.image)}, and {_size(self.free)} are free; give a smaller "
            "--rollout.batch, fewer --rollout.steps, or --problem.precision bfloat16"
        )


def plan_memory(experiment: Experiment, meter: Meter | None = None) -> MemoryPlan:
    """Measure one small step of `experiment` and say what the whole will take.

    Its random numbers and weights stay as they are.

    Args:
        experiment: as it was built.
        meter: of its device by default.
    """
    config, setting = experiment.config, experiment.setting
    device = experiment.generator.device
    measure = meter or (CudaMeter(device) if device.type == "cuda" else CpuMeter())
    x, context = setting.problem.initial(TRIAL, torch.Generator(device).manual_seed(0))
    together = config.micro_batch or config.update.minibatch
    rows = min(TRIAL, together)
    image = _image(measure, lambda n: _trial(setting.mean, x[:n], _part(context, n)), rows)
    trained = [p for m in experiment.modules().values() for p in m.parameters() if p.requires_grad]
    averaged = [p for p in setting.mean.parameters() if p.requires_grad and config.update.averaged]
    held = PER_STATE + (0 if config.micro_batch is None else DEALT)
    kept = held * config.rollout.batch * config.rollout.steps * x[0].numel() * 4
    return MemoryPlan(
        networks=_bytes(_tensors([setting.mean, setting.value, *setting.frozen])),
        optimizer=3 * _bytes(trained) + _bytes(averaged),
        rollout=kept,
        image=image,
        together=min(together, config.rollout.batch * config.rollout.steps),
        free=measure.free(),
    )


def _image(measure: Meter, work: Callable[[int], object], rows: int) -> int:
    """What one image takes, of as many as fit."""
    try:
        return -(-measure.taken(lambda: work(rows)) // rows)
    except torch.OutOfMemoryError:
        if rows > 1:
            return _image(measure, work, rows // 2)
        raise CtcontrolError(
            f"one image in an update takes more memory than is free ({_size(measure.free())}); "
            "compute in --problem.precision bfloat16, with --problem.gradient-checkpointing True, "
            "or on a larger card"
        ) from None


def _part(context: Any, count: int) -> Any:
    return context[:count] if isinstance(context, Tensor) else context


def _trial(mean: nn.Module, x: Tensor, context: Any) -> None:
    """Forward and backward; gradients are thrown away."""
    trained = [p for p in mean.parameters() if p.requires_grad]
    with torch.enable_grad():
        loss = mean(x.new_zeros(len(x)), x, context).square().mean()
        torch.autograd.grad(loss, trained, allow_unused=True)


def _tensors(modules: Iterable[nn.Module]) -> list[Tensor]:
    found: Mapping[int, Tensor] = {
        id(tensor): tensor
        for module in modules
        for tensor in (*module.parameters(), *module.buffers())
    }
    return list(found.values())


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(count: int) -> str:
    return f"{count / GIGABYTE:.2g} GB" if count >= GIGABYTE / 10 else f"{count / 1e6:.3g} MB"
