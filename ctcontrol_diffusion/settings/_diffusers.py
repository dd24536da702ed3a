"""What settings of diffusers' models have in common, whatever their states and prompts are."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ctcontrol import (
    Context,
    ControlProblem,
    GaussianPolicy,
    InitialLaw,
    PathKL,
    TerminalReward,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.inspection import Inspector, Plan
from ctcontrol_diffusion.models.lora import Adapters
from ctcontrol_diffusion.publish import Published
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.rewards import Metadata, TerminalImageReward, load_reward
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.schedulers import scheduler_named
from ctcontrol_diffusion.score import NetworkScore, frozen
from ctcontrol_diffusion.settings._base import Facts, Pictures, Progress, Setting
from ctcontrol_diffusion.settings._images import LastStep
from ctcontrol_diffusion.settings.critic import ImageModel, value_for
from ctcontrol_diffusion.settings.features import real_images
from ctcontrol_diffusion.settings.samplers import sampler_for

AnyProblem = c.Cifar10 | c.StableDiffusion
Score = TypeVar("Score", bound=NetworkScore)


@dataclass(frozen=True, eq=False)
class Parts:
    """A pretrained model, ready to be sampled from and trained.

    Attributes:
        scheduler: of diffusers, which the model came with.
        schedule: read from it.
        score: the trainable mean action.
        reference: the pretrained policy.
        image: clean states to images in [0, 1].
        shape: of a state, (channels, height, width).
        initial: law of noise and context.
        prompts: context -> texts.
        contexts: texts -> context.
        metadata: context -> what rewards are told besides.
        classes: contexts are integers below this number.
        publish: of the setting.
        seen, unseen: prompts that training draws from, and others; none if there are no prompts.
        others: networks that do not learn.
    """

    scheduler: Any
    schedule: Schedule
    score: NetworkScore
    reference: GaussianPolicy
    image: Callable[[Tensor], Tensor]
    shape: tuple[int, int, int]
    initial: InitialLaw
    prompts: Callable[[Tensor], list[str]]
    contexts: Callable[[list[str]], Tensor]
    metadata: Callable[[Tensor], Metadata]
    classes: int
    publish: Callable[[Path], Published]
    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    others: Sequence[nn.Module] = ()


def setting_of(
    parts: Parts,
    problem: AnyProblem,
    config: c.Config,
    device: torch.device,
    generator: torch.Generator,
) -> Setting:
    """The setting; raises `CtcontrolError` for a bad reward, scheduler, sampler or features."""
    schedule = parts.schedule
    last = LastStep(parts.reference, schedule, parts.image)
    pictures = Pictures(last, parts.prompts, parts.contexts, parts.seen, parts.unseen)
    load = partial(load_reward, device=str(device))
    rewarded = partial(
        TerminalImageReward,
        reward=load(problem.reward),
        prompts=parts.prompts,
        metadata=parts.metadata,
    )

    def image(x: Tensor, _: Context) -> Tensor:
        return parts.image(x)

    clean, terminal = rewarded(decode=image), rewarded(decode=last)
    terminal.probe(*parts.initial(2, torch.Generator(device).manual_seed(0)))
    penalty = PathKL(parts.reference, problem.kl_weight)
    control = ControlProblem(
        sde=ReverseSDE(schedule),
        reward=TerminalReward(terminal, beside=True),
        initial=parts.initial,
        horizon=schedule.horizon,
        regularizer=penalty if problem.kl_weight > 0 else None,
    )
    sight = ImageModel(
        parts.score, schedule, clean, terminal, parts.shape, parts.classes, problem.data_variance
    )
    scheduler = partial(scheduler_named, original=parts.scheduler)
    for name in problem.schedulers:
        scheduler(name)  # refused before anything is computed
    inspector = Inspector(
        problem=replace(control, regularizer=penalty),
        grid=schedule.grid,
        decode=last,
        clean=clean,
        contexts=parts.contexts,
        plan=Plan(
            steps=config.evaluation.steps,
            images=config.evaluation.images,
            samplers=("SDE", "ODE", *problem.schedulers),
            groups={"seen": parts.seen, "unseen": parts.unseen} if parts.unseen else {},
            rewards={name: load(name) for name in config.evaluation.rewards},
            real=real_images(problem.features, problem.real, device),
        ),
        scheduler=scheduler,
        load=load,
        batch=config.micro_batch or config.rollout.batch,
        device=device,
    )
    return Setting(
        problem=control,
        mean=parts.score,
        value=value_for(config.critic, sight, "convolution", device, generator),
        solver=sampler_for(problem.sampler, problem.eta, problem.data_variance, schedule),
        evaluate=inspector.evaluate,
        facts=_facts,
        pictures=pictures,
        grid=schedule.grid,
        inspector=inspector,
        frozen=parts.others,
        publish=parts.publish,
    )


def policies(
    network: nn.Module, scored: Callable[..., Score], adapt: Callable[[nn.Module], Adapters] | None
) -> tuple[Score, GaussianPolicy]:
    """The trained score, and the pretrained policy: the same network without adapters, or a copy.

    Args:
        network: of the model.
        scored: (network, switch=…) -> its score.
        adapt: puts adapters into it; all weights learn if None.
    """
    if adapt is None:
        reference = frozen(scored(copy.deepcopy(network)))
        score = scored(network.requires_grad_(True))
    else:
        adapters = adapt(network)
        score = scored(network, switch=adapters.on)
        reference = scored(network, switch=adapters.off)
    return score.eval(), GaussianPolicy(reference.eval())


def _facts(progress: Progress) -> Facts:
    """Nothing is known of such a model without training."""
    progress(1, 1)
    return Facts()
