"""Whether what was written does, once loaded, what the trained network did."""

import inspect
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.publish._factors import Factors, factors_of

TOLERANCE = 1e-4
"""Largest difference of a pixel, in [0, 1], that rounding may make; a byte is 40 of them."""
EXACT = 1e-6
"""Largest difference of a change BA, as a share of its largest number."""

STEPS = 3
IMAGES = 2
SEED = 0


class Mismatch(RuntimeError):
    """What was written, loaded again, is not what was trained."""


@dataclass(frozen=True)
class Published:
    """What was written into a folder, and how it was seen to be right.

    Attributes:
        kind: low-rank factors, a pipeline of diffusers, or a file of this package.
        base: the model it was made from, a folder or the id of a hub.
        usage: Python that loads it from the folder `{folder}`.
        difference: largest difference of a pixel, in [0, 1], between images of what was loaded and
            of what was trained, from the same noise.
        effect: the same between the trained and the pretrained.
    """

    kind: Literal["lora", "pipeline", "denoiser"]
    base: str
    usage: str
    difference: float
    effect: float

    def sentence(self) -> str:
        """What was compared."""
        how = f"differs by more than {self.difference:.1e} (allowed is {TOLERANCE:.0e})"
        return (
            "loaded afresh, it draws the same images from the same noise: no pixel "
            f"{how if self.difference else 'differs'}, while those of the pretrained model differ "
            f"by up to {self.effect:.2g}"
        )


def compared(theirs: Tensor, ours: Tensor, base: Tensor) -> tuple[float, float]:
    """(difference, effect) of three batches of images in [0, 1].

    Raises:
        Mismatch: the difference is above `TOLERANCE`.
    """
    difference, effect = (float((images - ours).abs().max()) for images in (theirs, base))
    if not difference <= TOLERANCE:
        raise Mismatch(
            "what was written does not draw the images of the trained network: loaded afresh, a "
            f"pixel differs by {difference:.2g} (at most {TOLERANCE:.0e} is allowed), and the "
            f"pretrained model's by {effect:.2g}"
        )
    return difference, effect


def compare_changes(network: nn.Module, expected: Factors) -> None:
    """Whether the adapters of `network` make exactly the changes BA of `expected`.

    Raises:
        Mismatch: some are missing, different, or there are others.
    """
    found = factors_of(network)
    if not found:
        raise Mismatch("load_lora_weights loaded nothing, without saying so")
    for name in sorted(expected.keys() ^ found.keys()):
        what = "was not loaded" if name in expected else "was loaded though it was not written"
        raise Mismatch(f"the change of {name} {what}")
    for name, factor in expected.items():
        wanted = factor.change()
        error, size = (found[name].change() - wanted).abs().max(), wanted.abs().max()
        if not error <= EXACT * size:
            raise Mismatch(f"the change of {name} was loaded with an error of {error / size:.1e}")


def loaded(
    model: str,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    *,
    whole: bool = False,
) -> Any:
    """The pipeline of a folder or hub, its numbers those of `dtype` but kept as float32.

    Args:
        model: folder or id.
        device: of all networks.
        dtype: to which weights are rounded.
        whole: with what judges finished images (safety checkers) as well.

    Raises:
        CtcontrolError: nothing is there, or no pipeline with a UNet.
    """
    from diffusers import DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # diffusers, of its own deprecations
            left = _filters(DiffusionPipeline.load_config(model)) if not whole else {}
            pipeline: Any = DiffusionPipeline.from_pretrained(model, dtype=dtype, **left)
            pipeline = pipeline.to(device, torch.float32)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CtcontrolError(
            f"cannot load the model {model!r} ({reason}); give a folder with the model_index.json "
            "of a diffusers pipeline, or go online if it is the id of a hub"
        ) from error
    if not hasattr(pipeline, "unet"):
        raise CtcontrolError(
            f"the model {model!r} is a {type(pipeline).__name__}, which has no UNet; give a "
            "Stable Diffusion, SDXL or DDPM pipeline"
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _filters(parts: Any) -> dict[str, Any]:
    """Words that leave out what looks at finished images, and needs files of its own."""
    names = ("safety_checker", "feature_extractor", "image_encoder")
    without: dict[str, Any] = {name: None for name in names if name in parts}
    if "requires_safety_checker" in parts:
        without["requires_safety_checker"] = False
    return without


@torch.no_grad()
def draw(pipeline: Any, prompts: Sequence[str]) -> Tensor:
    """(n, height, width, channels) images in [0, 1], always from the same noise.

    Args:
        pipeline: of diffusers, on any device.
        prompts: of the images, for a pipeline that takes some.
    """
    takes = inspect.signature(type(pipeline).__call__).parameters
    words: dict[str, Any] = {"prompt": list(prompts[:IMAGES])} if "prompt" in takes else {}
    if not words:
        words["batch_size"] = IMAGES
    classes = pipeline.unet.config.get("num_class_embeds")
    labels = torch.arange(IMAGES, device=pipeline.unet.device) % (classes or 1)
    told = _told(pipeline.unet, {"class_labels": labels} if classes and not prompts else {})
    exact = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with told, exact, _without_filter(pipeline):
        images = pipeline(
            **words,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(SEED),
            output_type="np",
        ).images
    return torch.from_numpy(images)


@contextmanager
def _told(network: nn.Module, more: dict[str, Any]) -> Generator[None]:
    """Every call of `network` with these words besides, which its pipeline does not know."""
    hook: Callable[..., Any] = lambda module, args, kwargs: (args, kwargs | more)
    handle = network.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _without_filter(pipeline: Any) -> Generator[None]:
    """No image is blackened."""
    checker = getattr(pipeline, "safety_checker", None)
    if checker is None:
        yield
        return
    pipeline.safety_checker = None
    try:
        yield
    finally:
        pipeline.safety_checker = checker
