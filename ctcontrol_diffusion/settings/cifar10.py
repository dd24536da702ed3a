"""Any `UNet2DModel` of diffusers, by default the DDPM of CIFAR-10, in few steps."""

import copy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ctcontrol import (
    ControlProblem,
    CtcontrolError,
    GaussianPolicy,
    PathKL,
    TerminalReward,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.inspection import Inspector, Plan
from ctcontrol_diffusion.models.lora import ATTENTION_AND_RESIDUALS, Adapters
from ctcontrol_diffusion.models.pixels import PixelModel, load_pixel_model
from ctcontrol_diffusion.publish import publish_pipeline
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.rewards import Metadata, TerminalImageReward, load_reward
from ctcontrol_diffusion.schedule import Schedule, schedule_of
from ctcontrol_diffusion.schedulers import scheduler_named
from ctcontrol_diffusion.score import NetworkScore, frozen, prediction_of
from ctcontrol_diffusion.settings._base import Facts, Pictures, Progress, Setting
from ctcontrol_diffusion.settings._images import LastStep, to_image
from ctcontrol_diffusion.settings.critic import ImageModel, value_for
from ctcontrol_diffusion.settings.features import real_images
from ctcontrol_diffusion.settings.samplers import sampler_for

UNPROMPTED = "unconditional"
"""What stands where a prompt would, for a model that takes none."""


def cifar10(
    problem: c.Cifar10, config: c.Config, device: torch.device, generator: torch.Generator
) -> Setting:
    """The setting of a pixel model; raises `CtcontrolError` for a bad model, reward or number."""
    model = load_pixel_model(problem.model, device)
    schedule = schedule_of(model.scheduler, problem.floor)
    score, reference = _scores(problem, config, model, schedule, generator)
    names = _Names(model)
    seen = tuple(names.texts) if model.classes else ()
    pictures = Pictures(LastStep(reference, schedule), names.prompts, names.contexts, seen)
    load = partial(load_reward, device=str(device))
    function = load(problem.reward)
    clean = TerminalImageReward(function, lambda x, _: to_image(x), names.prompts, _metadata)
    terminal = TerminalImageReward(function, pictures.decode, names.prompts, _metadata)
    initial = _Initial(model, device)
    terminal.probe(*initial(4, torch.Generator(device).manual_seed(0)))
    control = ControlProblem(
        sde=ReverseSDE(schedule),
        reward=TerminalReward(terminal, beside=True),
        initial=initial,
        horizon=schedule.horizon,
        regularizer=PathKL(reference, problem.kl_weight) if problem.kl_weight > 0 else None,
    )
    sight = ImageModel(
        score, schedule, clean, terminal, model.shape, names.classes, problem.data_variance
    )
    scheduler = partial(scheduler_named, original=model.scheduler)
    for name in problem.schedulers:
        scheduler(name)  # refused before anything is computed
    inspector = Inspector(
        problem=replace(control, regularizer=PathKL(reference, problem.kl_weight)),
        grid=schedule.grid,
        decode=pictures.decode,
        clean=clean,
        contexts=pictures.contexts,
        plan=Plan(
            steps=config.evaluation.steps,
            images=config.evaluation.images,
            samplers=("SDE", "ODE", *problem.schedulers),
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
        mean=score,
        value=value_for(config.critic, sight, "convolution", device, generator),
        solver=sampler_for(problem.sampler, problem.eta, problem.data_variance, schedule),
        evaluate=inspector.evaluate,
        facts=_facts,
        pictures=pictures,
        grid=schedule.grid,
        inspector=inspector,
        publish=lambda folder: publish_pipeline(model.network, problem.model, folder),
    )


def _scores(
    problem: c.Cifar10,
    config: c.Config,
    model: PixelModel,
    schedule: Schedule,
    generator: torch.Generator,
) -> tuple[NetworkScore, GaussianPolicy]:
    """The trained score, and the pretrained policy."""
    scored = partial(
        NetworkScore,
        schedule=schedule,
        prediction=prediction_of(model.scheduler),
        conditional=model.classes is not None,
        compute=torch.bfloat16 if problem.precision == "bfloat16" else None,
        at_once=config.micro_batch,
    )
    if problem.trained == "lora":
        network = model.network
        adapters = Adapters(network, problem.lora_rank, generator, targets=ATTENTION_AND_RESIDUALS)
        score = scored(network, switch=adapters.on)
        reference = scored(network, switch=adapters.off)
    else:
        reference = frozen(scored(copy.deepcopy(model.network)))
        score = scored(model.network)
    return score.eval(), GaussianPolicy(reference.eval())


def _metadata(context: Tensor) -> Metadata:
    return {"labels": context}


def _facts(progress: Progress) -> Facts:
    """Nothing is known of such a model without training."""
    progress(1, 1)
    return Facts()


class _Names:
    """Classes as prompts: their numbers, or one word for a model without classes."""

    def __init__(self, model: PixelModel) -> None:
        self.classes = model.classes or 1
        self.texts = (
            [UNPROMPTED] if model.classes is None else [str(k) for k in range(self.classes)]
        )

    def prompts(self, context: Tensor) -> list[str]:
        return [self.texts[label] for label in context.tolist()]

    def contexts(self, texts: list[str]) -> Tensor:
        bad = [text for text in texts if text.strip() not in self.texts]
        if bad:
            raise CtcontrolError(
                f"prompt {bad[0]!r} is nothing that the model takes; it takes "
                f"{self.texts[0]}{f' … {self.texts[-1]}' if self.classes > 1 else ''}"
            )
        return torch.tensor([self.texts.index(text.strip()) for text in texts])


class _Initial:
    """N(0, I) and every class equally often, in an order that starts anywhere."""

    def __init__(self, model: PixelModel, device: torch.device) -> None:
        self.shape, self.classes, self.device = model.shape, model.classes or 1, device

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        first = torch.randint(self.classes, (), generator=generator, device=self.device)
        labels = (torch.arange(batch, device=self.device) + first) % self.classes
        noise = torch.randn(batch, *self.shape, generator=generator, device=self.device)
        return noise, labels
