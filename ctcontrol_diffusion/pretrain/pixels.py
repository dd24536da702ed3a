"""Pretraining of a diffusion model of pixels on images of one's own: a `DDPMPipeline` folder."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from rich.console import Console
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.images import read_images
from ctcontrol_diffusion.report.tiles import sheet, tiles_of
from ctcontrol_diffusion.run.files import sync_folder, to_json
from ctcontrol_diffusion.run.interrupts import Interrupts

from ._checkpoint import FILE, read_checkpoint, restore, save_checkpoint
from ._fit import Fit
from ._networks import new_network, new_scheduler
from ._pixel_card import pixel_card
from ._pixel_config import PixelPretraining
from ._pixel_loss import pixel_loss
from ._progress import followed, new_progress

MODEL = "model"
EVALUATION_ROWS, EVALUATION_REPEATS = 250, 8
DRAWN, DRAWING_STEPS, COLUMNS = 64, 50, 8


def start(config: PixelPretraining, console: Console) -> bool:
    """A new pretraining; whether it came to its end rather than being stopped.

    Raises:
        CtcontrolError: a value cannot be, there are no images, or the folder cannot be used.
        NumericalError: the loss stops being finite.
    """
    config.check()
    for name in (FILE, MODEL):
        if (config.out / name).exists():
            raise CtcontrolError(
                f"{config.out} holds an earlier pretraining; continue it with --resume "
                f"{config.out}, or give another --out"
            )
    return _train(config, console)


def resume(folder: Path, console: Console) -> bool:
    """Goes on from the checkpoint in a folder, bit for bit on a CPU; raises like :func:`start`."""
    saved = read_checkpoint(folder)
    if (folder / MODEL).exists():
        console.print(f"{folder} is finished already", highlight=False, soft_wrap=True)
        return True
    return _train(saved.config.check(), console, continued=True)


def _train(config: PixelPretraining, console: Console, *, continued: bool = False) -> bool:
    assert config.images is not None
    device = _device(config.device)
    torch.set_num_threads(config.threads)
    images = read_images(config.images).to(device)
    shape = (images.shape[1], images.shape[2], images.shape[3])
    network = new_network(config.network, shape, dropout=config.dropout, seed=config.seed)
    _make(config.out)
    scheduler = new_scheduler(config.betas, config.prediction)
    generator = torch.Generator(device).manual_seed(config.seed)
    network.to(device)
    loss = pixel_loss(
        torch.compile(network) if config.compile else network,
        scheduler,
        images,
        batch_size=config.batch_size,
        flips=config.flips,
        bfloat16=config.precision == "bfloat16",
        generator=generator,
    )
    fit = Fit(network, loss, config.fit())
    fingerprint = hashlib.sha256(images.cpu().numpy().tobytes()).hexdigest()
    interrupts = Interrupts()
    with _own_randomness(config.seed), interrupts.installed():
        before = 0.0
        if continued:
            saved = read_checkpoint(config.out)
            if saved.images != fingerprint:
                raise CtcontrolError(
                    f"the images at {config.images} are not those this pretraining began with; "
                    "bring them back, or start anew in another folder"
                )
            restore(saved, fit, generator)
            before = saved.elapsed
            console.print(f"continuing after iteration {fit.iteration}", highlight=False)
        clock = time.perf_counter()
        steps = followed(
            progress := new_progress(console),
            "pixels",
            fit.steps(),
            config.iterations,
            fit.iteration,
        )
        with progress:
            while fit.iteration < config.iterations:
                with interrupts.deferred():
                    next(steps)
                    if (
                        interrupts.waiting
                        or fit.iteration == config.iterations
                        or fit.iteration % config.checkpoint_every == 0
                    ):
                        elapsed = before + time.perf_counter() - clock
                        save_checkpoint(fit, generator, config, fingerprint, elapsed)
                if interrupts.waiting:
                    return False
        seconds = before + time.perf_counter() - clock
        fit.finish()
        record = _measured(config, network, scheduler, images, seconds)
        _publish(config, network, scheduler, record)
    console.print(
        f"wrote {config.out / MODEL}: {seconds:.0f} s, loss {record['loss']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    return True


def _measured(
    config: PixelPretraining,
    network: UNet2DModel,
    scheduler: DDPMScheduler,
    images: Tensor,
    seconds: float,
) -> dict[str, Any]:
    """What the model card tells."""
    loss = pixel_loss(
        network,
        scheduler,
        images,
        batch_size=EVALUATION_ROWS,
        flips=False,
        bfloat16=False,
        generator=torch.Generator(images.device).manual_seed(config.seed + 1),
    )
    with torch.inference_mode():
        losses = torch.stack([loss() for _ in range(EVALUATION_REPEATS)])
    return {
        "command": config.command(),
        "config": asdict(config) | {"out": str(config.out), "images": str(config.images)},
        "versions": {name: version(name) for name in ("torch", "diffusers")},
        "images": len(images),
        "shape": list(images.shape[1:]),
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": losses.mean().item(),
        "loss_stderr": (losses.std() / EVALUATION_REPEATS**0.5).item(),
        "seconds": round(seconds, 1),
    }


def _publish(
    config: PixelPretraining,
    network: UNet2DModel,
    scheduler: DDPMScheduler,
    record: dict[str, Any],
) -> None:
    """model/: pipeline, card, record and a sheet of samples, appearing together."""
    temporary = config.out / f".{MODEL}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        pipeline: Any = DDPMPipeline(network, scheduler)
        pipeline.save_pretrained(temporary)
        (temporary / "training.json").write_text(to_json(record, indent=2) + "\n", "utf-8")
        (temporary / "README.md").write_text(pixel_card(record), "utf-8")
        (temporary / "samples.png").write_bytes(_samples(network, scheduler, config.seed))
        sync_folder(temporary)
        os.replace(temporary, config.out / MODEL)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(config.out)


def _samples(network: UNet2DModel, scheduler: DDPMScheduler, seed: int) -> bytes:
    """A PNG of images by DDIM."""
    ddim: Any = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing")
    pipeline: Any = DDIMPipeline(network, ddim)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator(network.device).manual_seed(seed)
    drawn = pipeline(
        batch_size=DRAWN,
        generator=generator,
        num_inference_steps=DRAWING_STEPS,
        output_type="np",
    ).images
    images = torch.from_numpy(drawn).movedim(-1, 1)
    return sheet(tiles_of(images, [""] * (DRAWN // COLUMNS)))


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Dropout draws from torch's global generators: seed them here, put them back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise CtcontrolError(f"device {name!r} cannot be used ({reason}); try cpu") from None
    return device


def _make(out: Path) -> None:
    """The output folder, seen to be writable before the work, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CtcontrolError(
            f"cannot make the folder {out}: {error.strerror}; give another --out"
        ) from error
    if not os.access(out, os.W_OK):
        raise CtcontrolError(f"cannot write into {out}; give another --out")
