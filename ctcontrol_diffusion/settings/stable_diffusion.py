"""Text-to-image models of latents from diffusers: Stable Diffusion 1 and 2, SDXL."""

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ctcontrol import (
    ControlProblem,
    GaussianPolicy,
    PathKL,
    TerminalReward,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.guidance import Conditions, GuidedScore, PromptTable
from ctcontrol_diffusion.inspection import Inspector, Plan
from ctcontrol_diffusion.models.latents import LatentModel, load_latent_model
from ctcontrol_diffusion.models.lora import Adapters
from ctcontrol_diffusion.prompts import Prompts, load_prompts
from ctcontrol_diffusion.publish import publish_lora, publish_pipeline
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.rewards import Metadata, TerminalImageReward, load_reward
from ctcontrol_diffusion.schedule import Schedule, schedule_of
from ctcontrol_diffusion.schedulers import scheduler_named
from ctcontrol_diffusion.score import frozen, prediction_of
from ctcontrol_diffusion.settings._base import Facts, Pictures, Progress, Setting
from ctcontrol_diffusion.settings._images import LastStep
from ctcontrol_diffusion.settings.critic import ImageModel, value_for
from ctcontrol_diffusion.settings.features import real_images
from ctcontrol_diffusion.settings.samplers import sampler_for


def stable_diffusion(
    problem: c.StableDiffusion,
    config: c.Config,
    device: torch.device,
    generator: torch.Generator,
) -> Setting:
    """The setting of a latent model; raises `CtcontrolError` for a bad model, reward or prompt."""
    seen, kept_back = _prompts(problem)
    low = torch.bfloat16 if problem.precision == "bfloat16" else None
    adapted = problem.trained == "lora"
    model = load_latent_model(
        problem.model,
        device,
        weights=low if low and adapted else torch.float32,
        resolution=problem.resolution,
    )
    schedule = schedule_of(model.scheduler, problem.floor)
    table = PromptTable(
        model.conditions,
        seen.texts + kept_back,
        model.nothing(problem.negative_prompt),
        _size(model, device),
    )
    score, reference = _scores(problem, config, model, schedule, table, generator)
    decoder = _Decoder(model, config.micro_batch)
    last = LastStep(reference, schedule, decoder)
    names = _Names(seen, table)
    pictures = Pictures(last, names.prompts, table.rows, seen.texts, kept_back)
    load = partial(load_reward, device=str(device))
    function = load(problem.reward)
    clean = TerminalImageReward(function, decoder.of_row, names.prompts, names.metadata)
    terminal = TerminalImageReward(function, last, names.prompts, names.metadata)
    initial = _Initial(model.shape, len(seen), problem.images_per_prompt, device)
    terminal.probe(*initial(2, torch.Generator(device).manual_seed(0)))
    control = ControlProblem(
        sde=ReverseSDE(schedule),
        reward=TerminalReward(terminal, beside=True),
        initial=initial,
        horizon=schedule.horizon,
        regularizer=PathKL(reference, problem.kl_weight) if problem.kl_weight > 0 else None,
    )
    publish = publish_lora if adapted else publish_pipeline
    sight = ImageModel(
        score, schedule, clean, terminal, model.shape, len(seen), problem.data_variance
    )
    scheduler = partial(scheduler_named, original=model.scheduler)
    for name in problem.schedulers:
        scheduler(name)  # refused before anything is computed
    inspector = Inspector(
        problem=replace(control, regularizer=PathKL(reference, problem.kl_weight)),
        grid=schedule.grid,
        decode=last,
        clean=clean,
        contexts=table.rows,
        plan=Plan(
            steps=config.evaluation.steps,
            images=config.evaluation.images,
            samplers=("SDE", "ODE", *problem.schedulers),
            groups={"seen": seen.texts, "unseen": kept_back} if kept_back else {},
            rewards={name: load(name) for name in config.evaluation.rewards},
            real=real_images(problem.features, problem.real, device),
        ),
        scheduler=scheduler,
        load=load,
        batch=config.rollout.batch,
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
        frozen=model.others,
        publish=lambda folder: publish(model.network, problem.model, folder, seen.texts),
    )


def _prompts(problem: c.StableDiffusion) -> tuple[Prompts, tuple[str, ...]]:
    """Those trained on, and the texts of those that are kept back."""
    every = load_prompts(problem.prompts)
    if problem.held_out == 0:
        return every, ()
    seen, kept_back = every.split(problem.held_out)
    return seen, kept_back.texts


def _size(model: LatentModel, device: torch.device) -> Conditions:
    """SDXL's height, width, top, left, height, width: an image of this size, not cropped."""
    if not model.wants_size:
        return {}
    side = float(model.resolution)
    return {"time_ids": torch.tensor([[side, side, 0.0, 0.0, side, side]], device=device)}


def _scores(
    problem: c.StableDiffusion,
    config: c.Config,
    model: LatentModel,
    schedule: Schedule,
    table: PromptTable,
    generator: torch.Generator,
) -> tuple[GuidedScore, GaussianPolicy]:
    """The trained score, and the pretrained policy: the same network with its adapters off."""
    network = model.network
    scored = partial(
        GuidedScore,
        schedule=schedule,
        prediction=prediction_of(model.scheduler),
        table=table,
        guidance=problem.guidance,
        through_both=problem.guidance_gradient == "both",
        at_once=config.micro_batch,
        compute=torch.bfloat16 if problem.precision == "bfloat16" else None,
    )
    if problem.trained == "lora":
        adapters = Adapters(network, problem.lora_rank, generator, alpha=problem.lora_alpha)
        score = scored(network, switch=adapters.on)
        reference = scored(network, switch=adapters.off)
    else:
        reference = frozen(scored(copy.deepcopy(network)))
        score = scored(network.requires_grad_(True))
    if problem.gradient_checkpointing:
        network.enable_gradient_checkpointing()
    return score.eval(), GaussianPolicy(reference.eval())


def _facts(progress: Progress) -> Facts:
    """Nothing is known of such a model without training."""
    progress(1, 1)
    return Facts()


@dataclass(frozen=True, eq=False)
class _Decoder:
    """Clean latents to images in [0, 1], a few at a time."""

    model: LatentModel
    at_once: int | None

    def __call__(self, x: Tensor) -> Tensor:
        parts = [self.model.decode(part) for part in x.split(self.at_once or len(x))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def of_row(self, x: Tensor, context: object) -> Tensor:
        """The same whatever the prompt."""
        return self(x)


@dataclass(frozen=True, eq=False)
class _Names:
    """Rows of the table as prompts, with what their source says of them."""

    seen: Prompts
    table: PromptTable

    def prompts(self, context: Tensor) -> list[str]:
        return self.table.texts_of(context)

    def metadata(self, context: Tensor) -> Metadata:
        """Only of prompts that are trained on: others come without details."""
        known = bool((context < len(self.seen)).all())
        details = self.seen.metadata_of(context) if known else {}
        return {"rows": context, **details}


@dataclass(frozen=True, eq=False)
class _Initial:
    """N(0, I), and prompts drawn without replacement, each for a few images next to each other."""

    shape: tuple[int, ...]
    prompts: int
    images_per_prompt: int
    device: torch.device

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        wanted = -(-batch // self.images_per_prompt)
        rounds = -(-wanted // self.prompts)
        drawn = torch.cat(
            [
                torch.randperm(self.prompts, generator=generator, device=self.device)
                for _ in range(rounds)
            ]
        )
        rows = drawn[:wanted].repeat_interleave(self.images_per_prompt)[:batch]
        noise = torch.randn(batch, *self.shape, generator=generator, device=self.device)
        return noise, rows
