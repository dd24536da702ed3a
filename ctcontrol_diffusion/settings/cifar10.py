"""Any `UNet2DModel` of diffusers, by default the DDPM of CIFAR-10, in few steps."""

from functools import partial

import torch
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.models.lora import ATTENTION_AND_RESIDUALS, Adapters
from ctcontrol_diffusion.models.pixels import PixelModel, load_pixel_model
from ctcontrol_diffusion.publish import publish_pipeline
from ctcontrol_diffusion.rewards import Metadata
from ctcontrol_diffusion.schedule import schedule_of
from ctcontrol_diffusion.score import NetworkScore, prediction_of
from ctcontrol_diffusion.settings._base import Setting
from ctcontrol_diffusion.settings._diffusers import Parts, policies, setting_of
from ctcontrol_diffusion.settings._images import to_image

UNPROMPTED = "unconditional"
"""What stands where a prompt would, for a model that takes none."""


def cifar10(
    problem: c.Cifar10, config: c.Config, device: torch.device, generator: torch.Generator
) -> Setting:
    """The setting of a pixel model; raises `CtcontrolError` for a bad model, reward or number."""
    model = load_pixel_model(problem.model, device)
    schedule = schedule_of(model.scheduler, problem.floor)
    scored = partial(
        NetworkScore,
        schedule=schedule,
        prediction=prediction_of(model.scheduler),
        conditional=model.classes is not None,
        compute=torch.bfloat16 if problem.precision == "bfloat16" else None,
        at_once=config.micro_batch,
    )
    adapt = partial(
        Adapters, rank=problem.lora_rank, generator=generator, targets=ATTENTION_AND_RESIDUALS
    )
    score, reference = policies(model.network, scored, adapt if problem.trained == "lora" else None)
    names = _Names(model)
    parts = Parts(
        scheduler=model.scheduler,
        schedule=schedule,
        score=score,
        reference=reference,
        image=to_image,
        shape=model.shape,
        initial=_Initial(model, device),
        prompts=names.prompts,
        contexts=names.contexts,
        metadata=_metadata,
        classes=names.classes,
        publish=lambda folder: publish_pipeline(model.network, problem.model, folder),
        seen=tuple(names.texts) if model.classes else (),
    )
    return setting_of(parts, problem, config, device, generator)


def _metadata(context: Tensor) -> Metadata:
    return {"labels": context}


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
