"""Text-to-image models of latents from diffusers: Stable Diffusion 1 and 2, SDXL."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.guidance import Conditions, GuidedScore, PromptTable
from ctcontrol_diffusion.models.latents import LatentModel, load_latent_model
from ctcontrol_diffusion.models.lora import Adapters
from ctcontrol_diffusion.prompts import Prompts, load_prompts
from ctcontrol_diffusion.publish import publish_lora, publish_pipeline
from ctcontrol_diffusion.rewards import Metadata
from ctcontrol_diffusion.schedule import schedule_of
from ctcontrol_diffusion.score import prediction_of
from ctcontrol_diffusion.settings._base import Setting
from ctcontrol_diffusion.settings._diffusers import Parts, policies, setting_of


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
    scored = partial(
        GuidedScore,
        schedule=schedule,
        prediction=prediction_of(model.scheduler),
        table=table,
        guidance=problem.guidance,
        through_both=problem.guidance_gradient == "both",
        at_once=config.micro_batch,
        compute=low,
    )
    adapt = partial(Adapters, rank=problem.lora_rank, generator=generator, alpha=problem.lora_alpha)
    score, reference = policies(model.network, scored, adapt if adapted else None)
    if problem.gradient_checkpointing:
        model.network.enable_gradient_checkpointing()
    names = _Names(seen, table)
    publish = publish_lora if adapted else publish_pipeline
    parts = Parts(
        scheduler=model.scheduler,
        schedule=schedule,
        score=score,
        reference=reference,
        image=_Decoder(model, config.micro_batch),
        shape=model.shape,
        initial=_Initial(model.shape, len(seen), problem.images_per_prompt, device),
        prompts=names.prompts,
        contexts=table.rows,
        metadata=names.metadata,
        classes=len(seen),
        publish=lambda folder: publish(model.network, problem.model, folder, seen.texts),
        seen=seen.texts,
        unseen=kept_back,
        others=model.others,
    )
    return setting_of(parts, problem, config, device, generator)


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


@dataclass(frozen=True, eq=False)
class _Decoder:
    """Clean latents to images in [0, 1], a few at a time."""

    model: LatentModel
    at_once: int | None

    def __call__(self, x: Tensor) -> Tensor:
        parts = [self.model.decode(part) for part in x.split(self.at_once or len(x))]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


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
