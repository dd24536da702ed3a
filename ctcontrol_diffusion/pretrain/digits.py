"""Pretraining of the digits models: denoiser, reward and judge, with a record of what was done."""

import json
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel
from rich.console import Console
from rich.progress import Progress
from torch import nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.digits import (
    DigitClassifier,
    classifier_names,
    digits_data,
    new_classifier,
    new_denoiser,
    noise_scheduler,
    save_classifier,
    save_denoiser,
)
from ctcontrol_diffusion.run.interrupts import Interrupts

from ._card import model_card
from ._config import DigitsPretraining
from ._fit import FitOptions, fit
from ._folder import make_folder
from ._objectives import Loss, classification_loss, classifier_quality, denoising_loss
from ._progress import followed, new_progress

DENOISER_WEIGHT_DECAY = 1e-4
CLASSIFIER_WEIGHT_DECAY = 1e-2
EVALUATION_ROWS, EVALUATION_REPEATS = 2000, 16


def pretrain_digits(config: DigitsPretraining, console: Console) -> dict[str, Any]:
    """Trains the three networks, writes the five files, returns what ``training.json`` holds.

    Raises:
        CtcontrolError: when a value of ``config`` cannot be, or ``config.out`` cannot be written
            or already holds files.
        NumericalError: when a loss stops being finite.
    """
    config.check()
    out = _folder(config)
    torch.set_num_threads(config.threads)
    began = time.perf_counter()
    record: dict[str, Any] = {
        "command": config.command(),
        "config": asdict(config) | {"out": str(config.out)},
        "versions": {name: version(name) for name in ("torch", "diffusers", "scikit-learn")},
        "images": {split: len(digits_data(split)) for split in ("all", "train", "heldout")},
        "classifiers": {},
        "timing": {},
    }
    progress = new_progress(console)
    interrupts = Interrupts(quiet=True)
    # The files of one run appear together, so a folder never mixes two runs.
    with (
        interrupts.installed(),
        progress,
        tempfile.TemporaryDirectory(dir=out, prefix=".pretrain-") as folder,
    ):
        written = Path(folder)
        for name in classifier_names():
            classifier, measured = _classifier(name, config, progress, interrupts)
            record["timing"][name] = measured.pop("seconds")
            record["classifiers"][name] = measured
            save_classifier(classifier, name, written / f"classifier_{name}.safetensors")
        denoiser, measured = _denoiser(config, progress, interrupts)
        record["timing"]["denoiser"] = measured.pop("seconds")
        record["denoiser"] = measured
        save_denoiser(denoiser, written / "denoiser.safetensors")
        record["timing"]["seconds"] = round(time.perf_counter() - began, 1)
        _publish(record, written, out)
    console.print(
        f"wrote {out} in {record['timing']['seconds']:.0f} s", highlight=False, soft_wrap=True
    )
    return record


def _classifier(
    name: str, config: DigitsPretraining, progress: Progress, interrupts: Interrupts
) -> tuple[DigitClassifier, dict[str, Any]]:
    train, held_out = digits_data("train"), digits_data("heldout")
    stream = 1 + classifier_names().index(name)
    # The judge stays unsmoothed: smoothing draws the features of a digit towards one point, and a
    # Fréchet distance between such features sees little but the proportions of the digits.
    smoothing = config.label_smoothing if name == "reward" else 0.0
    with _seeded_initialization(config.seed, stream):
        classifier = new_classifier(name)
    loss = classification_loss(
        classifier,
        train,
        batch_size=config.classifier_batch_size,
        label_smoothing=smoothing,
        generator=_generator(config.seed, stream),
    )
    seconds, last_loss = _run(
        progress,
        interrupts,
        f"classifier {name}",
        classifier,
        loss,
        FitOptions(
            iterations=config.classifier_iterations,
            learning_rate=config.classifier_learning_rate,
            weight_decay=CLASSIFIER_WEIGHT_DECAY,
            average_decay=config.average_decay,
        ),
    )
    return classifier, {
        "parameters": sum(p.numel() for p in classifier.parameters()),
        "label_smoothing": smoothing,
        "training_loss": last_loss,
        "train": classifier_quality(classifier, train),
        "heldout": classifier_quality(classifier, held_out),
        "seconds": seconds,
    }


def _denoiser(
    config: DigitsPretraining, progress: Progress, interrupts: Interrupts
) -> tuple[UNet2DModel, dict[str, Any]]:
    with _seeded_initialization(config.seed, 0):
        denoiser = new_denoiser()
    data = digits_data("all")
    scheduler = noise_scheduler()

    def loss_of(batch_size: int, generator: torch.Generator) -> Loss:
        return denoising_loss(
            denoiser,
            scheduler,
            data,
            batch_size=batch_size,
            wrong_probability=config.wrong_probability,
            generator=generator,
        )

    seconds, last_loss = _run(
        progress,
        interrupts,
        "denoiser",
        denoiser,
        loss_of(config.batch_size, _generator(config.seed, 0)),
        FitOptions(
            iterations=config.iterations,
            learning_rate=config.learning_rate,
            weight_decay=DENOISER_WEIGHT_DECAY,
            average_decay=config.average_decay,
        ),
    )
    evaluation = loss_of(EVALUATION_ROWS, _generator(config.seed, 3))
    with torch.inference_mode():
        losses = torch.stack([evaluation() for _ in range(EVALUATION_REPEATS)])
    return denoiser, {
        "parameters": sum(p.numel() for p in denoiser.parameters()),
        "training_loss": last_loss,
        "loss": losses.mean().item(),
        "loss_stderr": (losses.std() / EVALUATION_REPEATS**0.5).item(),
        "seconds": seconds,
    }


def _run(
    progress: Progress,
    interrupts: Interrupts,
    title: str,
    module: nn.Module,
    loss: Loss,
    options: FitOptions,
) -> tuple[float, float]:
    """Fits; returns seconds and the running mean of the loss at the end.

    Ctrl-C is heeded between two steps: within one it may come where exceptions are swallowed.
    """
    began, mean = time.perf_counter(), 0.0
    steps = fit(module, loss, options)
    with interrupts.deferred():
        for _, last in followed(progress, title, steps, options.iterations):
            mean = last
            if interrupts.waiting:
                raise KeyboardInterrupt
    return round(time.perf_counter() - began, 1), mean


def _generator(seed: int, stream: int) -> torch.Generator:
    """Independent streams: 0 denoiser, 1 and 2 classifiers, 3 evaluation."""
    return torch.Generator().manual_seed(4 * seed + stream)


@contextmanager
def _seeded_initialization(seed: int, stream: int) -> Generator[None]:
    """Modules initialize themselves from the global generator: seed it here, restore it after."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4 * seed + stream)
        yield


def _publish(record: dict[str, Any], written: Path, out: Path) -> None:
    """Adds record and card to the weights and moves all into the output folder."""
    try:
        (written / "training.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
        (written / "MODEL_CARD.md").write_text(model_card(record), "utf-8")
        for path in sorted(written.iterdir()):
            os.replace(path, out / path.name)
    except OSError as error:
        raise CtcontrolError(
            f"cannot write into {out}: {error.strerror}; give another --out"
        ) from error


def _folder(config: DigitsPretraining) -> Path:
    """The output folder, made and seen to be writable before the work, not after it."""
    out = config.out
    make_folder(out)
    if (out / "denoiser.safetensors").exists() and not config.overwrite:
        raise CtcontrolError(
            f"{out} holds the files of an earlier run; give another --out, or --overwrite"
        )
    return out
