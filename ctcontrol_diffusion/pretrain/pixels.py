"""Pretraining of a diffusion model of pixels on images of one's own: a `DDPMPipeline` folder."""

import hashlib
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from rich.console import Console
from torch import nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.build import device_called
from ctcontrol_diffusion.models.images import read_images
from ctcontrol_diffusion.report.tiles import sheet, tiles_of
from ctcontrol_diffusion.run.files import sync_folder, to_json
from ctcontrol_diffusion.run.interrupts import Interrupts

from ._checkpoint import FILE, read_checkpoint, restore, save_checkpoint
from ._fit import Fit
from ._folder import make_folder
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
    torch.set_num_threads(config.threads)
    interrupts = Interrupts()
    with _own_randomness(config.seed), interrupts.installed():
        work = _Work(config)
        if continued:
            work.take_up()
            console.print(f"continuing after iteration {work.fit.iteration}", highlight=False)
        if not work.train(console, interrupts):
            return False
        work.fit.finish()
        record = _measured(work)
        _publish(work, record)
    console.print(
        f"wrote {config.out / MODEL}: {work.elapsed:.0f} s, loss {record['loss']:.4f}",
        highlight=False,
        soft_wrap=True,
    )
    return True


class _Work:
    """All objects of a pretraining, at its start until something else is taken up.

    Raises:
        CtcontrolError: there are no images, they do not go with the network, or the device or the
            folder cannot be used.
    """

    def __init__(self, config: PixelPretraining) -> None:
        assert config.images is not None
        device = device_called(config.device)
        self.config, self.elapsed = config, 0.0
        self.images = read_images(config.images).to(device)
        shape = (self.images.shape[1], self.images.shape[2], self.images.shape[3])
        self.network = new_network(config.network, shape, dropout=config.dropout, seed=config.seed)
        make_folder(config.out)
        nn.Module.to(self.network, device)
        self.scheduler = new_scheduler(config.betas, config.prediction)
        self.generator = torch.Generator(device).manual_seed(config.seed)
        loss = pixel_loss(
            torch.compile(self.network) if config.compile else self.network,
            self.scheduler,
            self.images,
            batch_size=config.batch_size,
            flips=config.flips,
            bfloat16=config.precision == "bfloat16",
            generator=self.generator,
        )
        self.fit = Fit(self.network, loss, config.fit())
        self.fingerprint = hashlib.sha256(self.images.cpu().numpy().tobytes()).hexdigest()

    def take_up(self) -> None:
        """Go to the checkpoint; raises `CtcontrolError` if it cannot be used with these images."""
        saved = read_checkpoint(self.config.out)
        if saved.images != self.fingerprint:
            raise CtcontrolError(
                f"the images at {self.config.images} are not those this pretraining began with; "
                "bring them back, or start anew in another folder"
            )
        restore(saved, self.fit, self.generator)
        self.elapsed = saved.elapsed

    def train(self, console: Console, interrupts: Interrupts) -> bool:
        """All updates that are left; False, with a checkpoint, if asked to stop on the way."""
        fit, total, earlier = self.fit, self.config.iterations, self.elapsed
        began, progress = time.perf_counter(), new_progress(console)
        steps = followed(progress, "pixels", fit.steps(), total, fit.iteration)
        with progress:
            while fit.iteration < total:
                with interrupts.deferred():
                    next(steps)
                    self.elapsed = earlier + time.perf_counter() - began
                    due = fit.iteration == total or not fit.iteration % self.config.checkpoint_every
                    if due or interrupts.waiting:
                        save_checkpoint(
                            fit, self.generator, self.config, self.fingerprint, self.elapsed
                        )
                if interrupts.waiting:
                    return False
        return True


def _measured(work: _Work) -> dict[str, Any]:
    """What the model card tells."""
    config, images = work.config, work.images
    loss = pixel_loss(
        work.network,
        work.scheduler,
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
        "parameters": sum(p.numel() for p in work.network.parameters()),
        "loss": losses.mean().item(),
        "loss_stderr": (losses.std() / EVALUATION_REPEATS**0.5).item(),
        "seconds": round(work.elapsed, 1),
    }


def _publish(work: _Work, record: dict[str, Any]) -> None:
    """model/: pipeline, card, record and a sheet of samples, appearing together."""
    config = work.config
    temporary = config.out / f".{MODEL}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        pipeline: Any = DDPMPipeline(work.network, work.scheduler)
        pipeline.save_pretrained(temporary)
        (temporary / "training.json").write_text(to_json(record, indent=2) + "\n", "utf-8")
        (temporary / "README.md").write_text(pixel_card(record), "utf-8")
        (temporary / "samples.png").write_bytes(_samples(work.network, work.scheduler, config.seed))
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
def _own_randomness(seed: int) -> Generator[None]:
    """Dropout draws from torch's global generators: seed them here, put them back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
