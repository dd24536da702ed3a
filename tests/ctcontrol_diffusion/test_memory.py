"""What a run is said to take, against what it takes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion._console import command
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.memory import CpuMeter, MemoryPlan, plan_memory
from tests.ctcontrol_diffusion.tiny import tiny_sd


@dataclass(frozen=True)
class Small(CpuMeter):
    """A device that has only so much."""

    room: int

    def free(self) -> int:
        return self.room


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    problem = c.StableDiffusion(
        model=tiny_sd(tmp_path_factory.mktemp("model")),
        reward="brightness",
        precision="float32",
        gradient_checkpointing=False,
    )
    return build(
        c.Config(
            problem=problem,
            threads=1,
            micro_batch=6,
            rollout=c.Rollout(steps=3, batch=8),
            update=c.Update(minibatch=12, share=1.0),
            critic=c.Critic(minibatch=12),
        )
    )


def test_what_a_rollout_keeps(made: Experiment) -> None:
    """Its tensors of the size of states, and in parts the noise of all paths besides."""
    path = next(made.iterations()).trajectory
    kept = (path.states[1:], path.actions, path.means, path.innovations, path.anchors)
    bytes_kept = sum(x.numel() * 4 for x in kept if x is not None)
    assert plan_memory(made, CpuMeter()).rollout == bytes_kept + path.innovations.numel() * 4
    whole = replace(made, config=replace(made.config, micro_batch=None))
    assert plan_memory(whole, CpuMeter()).rollout == bytes_kept


def test_activations_are_what_autograd_keeps(made: Experiment) -> None:
    """More images, and less checkpointing, take more."""
    plan = plan_memory(made, CpuMeter())
    assert plan.together == 6
    wide = plan_memory(replace(made, config=replace(made.config, micro_batch=3)), CpuMeter())
    assert wide.step < plan.step
    network: Any = made.setting.mean.network
    network.enable_gradient_checkpointing()
    assert plan_memory(made, CpuMeter()).image < 0.5 * plan.image
    network.disable_gradient_checkpointing()


def test_averaged_weights_are_kept_once_more(made: Experiment) -> None:
    """Those of the policy; the value has none."""
    policy = sum(4 * p.numel() for p in made.setting.mean.parameters() if p.requires_grad)
    plans = [
        plan_memory(replace(made, config=replace(made.config, update=update)), CpuMeter())
        for update in (replace(made.config.update, averaged=share) for share in (0.0, 0.3))
    ]
    assert plans[1].optimizer - plans[0].optimizer == policy > 0


def test_planning_leaves_no_trace(made: Experiment) -> None:
    state = made.generator.get_state()
    plan_memory(made, CpuMeter())
    assert torch.equal(state, made.generator.get_state())
    assert all(p.grad is None for p in made.setting.mean.parameters())


def test_too_many_images_at_once_say_what_would_fit(made: Experiment) -> None:
    plan = plan_memory(made, CpuMeter())
    room = plan.optimizer + plan.rollout + int(2.5 * plan.image)
    with pytest.raises(CtcontrolError, match=r"6 images at once take.*--micro-batch 2 would fit"):
        plan_memory(made, Small(room)).check()
    fitting = replace(made, config=replace(made.config, micro_batch=2))
    assert plan_memory(fitting, Small(room)).check().together == 2
    with pytest.raises(CtcontrolError, match=r"give a smaller --rollout\.batch"):
        plan_memory(made, Small(plan.optimizer + plan.rollout)).check()


def test_the_plan_is_said_in_words() -> None:
    plan = MemoryPlan(2 * 10**9, 10**7, 3 * 10**9, 5 * 10**8, 8, 20 * 10**9)
    assert str(plan) == (
        "memory: networks 2 GB, gradients and optimizer 10 MB, rollout 3 GB, activations of 8 "
        "images 4 GB; 20 GB free besides the networks"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_a_gpu_the_plan_is_what_is_taken(tmp_path: Path) -> None:
    """The peak of an update lies within a third of what was said."""
    problem = c.StableDiffusion(model=tiny_sd(tmp_path, block_out_channels=(64, 128)))
    made = build(c.Config(problem=problem, device="cuda", micro_batch=8))
    plan = plan_memory(made)
    x, context = made.setting.problem.initial(8, torch.Generator("cuda").manual_seed(0))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    made.setting.mean(x.new_zeros(8), x, context).square().mean().backward()
    taken = torch.cuda.max_memory_allocated() - before
    assert taken == pytest.approx(plan.step, rel=1 / 3)


@dataclass(frozen=True)
class Cramped(CpuMeter):
    """A card on which only so many images fit."""

    images: int

    def taken(self, work: Callable[[], object]) -> int:
        taken = super().taken(work)
        if taken > self.images * IMAGE * 1.5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return taken


IMAGE = 1.05e6
"""Bytes of one image of the network of these tests."""


def test_what_does_not_fit_is_tried_with_less(made: Experiment) -> None:
    """And is refused where a single image does not fit."""
    image = plan_memory(made, CpuMeter()).image
    assert image == pytest.approx(IMAGE, rel=0.1)
    assert plan_memory(made, Cramped(2)).image == pytest.approx(image, rel=0.1)
    with pytest.raises(CtcontrolError, match=r"one image .* more memory than is free.*bfloat16"):
        plan_memory(made, Cramped(0))


def test_no_traceback_where_memory_ends(capsys: pytest.CaptureFixture[str]) -> None:
    def greedy(words: list[str]) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    assert command(greedy, [], stopped="") == 3
    assert capsys.readouterr().err.startswith("error: out of memory; free some")
