"""Evaluating a run's model: the grid of samplers and step counts, before and after training."""

import fcntl
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion._console import console
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.inspection import Inspector, Plan
from ctcontrol_diffusion.prompts import load_prompts
from ctcontrol_diffusion.run.book import Book
from ctcontrol_diffusion.run.checkpoint import load_policy, policy_digest
from ctcontrol_diffusion.run.directory import RunDirectory, open_run, versions
from ctcontrol_diffusion.run.draw import checkpoint_path
from ctcontrol_diffusion.run.evaluation_page import warnings_of, write_page
from ctcontrol_diffusion.run.identity import check_networks
from ctcontrol_diffusion.run.interrupts import Interrupts
from ctcontrol_diffusion.run.progress import Voice, voice_for
from ctcontrol_diffusion.run.table import print_evaluation
from ctcontrol_diffusion.settings import Pictures
from ctcontrol_diffusion.settings.features import real_images

BASE = "base"


@dataclass(frozen=True)
class Request:
    """What is asked; None stands for what the run itself measures.

    Attributes:
        checkpoint: auto, last, best, base, or a number of iterations.
        steps: step counts.
        samplers: SDE, ODE, or schedulers of diffusers.
        images: samples a cell.
        prompts: a source of prompts.
        rewards: held-out rewards.
        features, real: for a Fréchet distance.
        seed: of the noise.
        compare: whether the pretrained model is evaluated too.
        command: that asked, to be written down.
    """

    checkpoint: str = "auto"
    steps: tuple[int, ...] | None = None
    samplers: tuple[str, ...] | None = None
    images: int | None = None
    prompts: str | None = None
    rewards: tuple[str, ...] | None = None
    features: str | None = None
    real: str | None = None
    seed: int = 20_000
    compare: bool = True
    command: str = ""


def evaluate_run(folder: Path, request: Request, out: Path) -> int:
    """Evaluate, show a table and write evaluation-*.json and .html; returns the exit status.

    Raises:
        CtcontrolError: no such run, checkpoint, scheduler, reward, prompt or file; nothing is
            computed then.
        NumericalError: a state or reward is NaN or infinite.
        OSError: `out` cannot be written.
    """
    directory = open_run(folder)
    config = check_config(directory.config)
    base_only = request.checkpoint == BASE
    checkpoint = None if base_only else checkpoint_path(directory, request.checkpoint)
    torch.set_num_threads(config.threads)
    experiment = build(config)
    inspector, pictures = experiment.setting.inspector, experiment.setting.pictures
    if inspector is None or pictures is None:
        raise CtcontrolError(
            f"the run in {folder} is not about images; its evaluation.json has all there is"
        )
    check_networks(directory, experiment)
    plan = plan_of(request, experiment, inspector, pictures)
    inspector.check(plan)
    asked = _question(request, plan, directory)
    notes: dict[str, Any] = {"run": str(folder), "command": request.command, "versions": versions()}
    if plan.real is not None:
        notes["distance"] = plan.real.about(plan.images)
    base = Book(out, BASE, {"model": directory.weights} | asked, notes)
    books = [base] if base_only or request.compare else []
    if checkpoint is not None:
        model = {"model": policy_digest(checkpoint)}
        books.append(Book(out, checkpoint.name, model | asked, notes))
    voice = voice_for(console(), unit="images", has_kl=True)
    with _alone(out), Interrupts().installed():
        for book in books:
            if book is not base and checkpoint is not None:
                load_policy(checkpoint, experiment)
            _fill(
                book, base if base in books and book is not base else None, experiment, plan, voice
            )
        _conclude(books, plan, voice)
    return 0


def plan_of(
    request: Request, experiment: Experiment, inspector: Inspector, pictures: Pictures
) -> Plan:
    """The plan of the run with what is asked in place of it.

    Raises:
        CtcontrolError: a reward, source of prompts, features or real images cannot be loaded.
    """
    own, config = inspector.plan, experiment.config
    rewards = own.rewards
    if request.rewards is not None:
        rewards = {name: inspector.load(name) for name in request.rewards}
    real = own.real
    if request.features is not None or request.real is not None:
        features, path = (
            asked or vars(config.problem).get(name)
            for name, asked in (("features", request.features), ("real", request.real))
        )
        if features is None:
            raise CtcontrolError("--real needs --features, which the images are compared by")
        device = inspector.device
        real = real_images(features, path, device, flags=("--features", "--real"))
    groups = own.groups
    if request.prompts is not None:
        texts = load_prompts(request.prompts).texts
        parts = {
            "seen": tuple(text for text in texts if text in pictures.seen),
            "unseen": tuple(text for text in texts if text not in pictures.seen),
        }
        groups = {name: some for name, some in parts.items() if some}
    return replace(
        own,
        steps=request.steps or own.steps,
        images=request.images or own.images,
        samplers=request.samplers or own.samplers,
        seed=request.seed,
        groups=groups,
        rewards=rewards,
        real=real,
        shown=config.evaluation.grid,
    )


def _question(request: Request, plan: Plan, directory: RunDirectory) -> dict[str, Any]:
    """All that the numbers of a cell depend on, besides the model."""
    groups = {
        name: hashlib.sha256("\n".join(texts).encode()).hexdigest()
        for name, texts in plan.groups.items()
    }
    return {
        "initial_weights": directory.weights,
        "images": plan.images,
        "seed": plan.seed,
        "prompts": {"source": request.prompts, "texts": groups},
        "rewards": list(plan.rewards),
        "features": request.features,
        "real": request.real,
    }


def _fill(book: Book, base: Book | None, experiment: Experiment, plan: Plan, voice: Voice) -> None:
    """Compute the cells that are not there, each kept as soon as it is done."""
    setting = experiment.setting
    assert setting.inspector is not None
    missing, known = book.missing(plan), len(plan.cells())
    what = "pretrained model" if book.model == BASE else f"after iteration {int(book.model)}"
    if not missing:
        voice.say(f"{what}: all {known} cells are there already")
        return
    total, done = plan.images * len(missing), 0
    with voice.stage(what) as tick:
        tick(0, total)

        def tell(images: int) -> None:
            nonlocal done
            done += images
            tick(done, total)

        for cell, samples in setting.inspector.measured(setting.mean, missing, plan, tell):
            book.add(cell, samples, plan, base)


def _conclude(books: list[Book], plan: Plan, voice: Voice) -> None:
    last = books[-1]
    before = books[0] if books[0].model == BASE else None
    sides: dict[str, Any] = {} if before is None else {"before": before.rows(plan)}
    sides |= {name: note for name, note in last.notes.items() if name == "distance"}
    if last is not before:
        sides["after"] = last.rows(plan)
    print_evaluation(voice.console, sides)
    for sentence in warnings_of(last.rows(plan)):
        voice.warn(sentence)
    write_page(last, before if last is not before else None, plan)
    voice.say(f"numbers: {last.path}")
    voice.say(f"page: {last.page}")


@contextmanager
def _alone(out: Path) -> Generator[None]:
    """One process a folder.

    Raises:
        CtcontrolError: another one is at work, or the folder cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    except OSError as error:
        raise CtcontrolError(
            f"cannot write to {out} ({error.strerror}); choose another folder with --out"
        ) from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CtcontrolError(
                f"another process is evaluating into {out}; wait for it, or give another --out"
            ) from None
        yield
