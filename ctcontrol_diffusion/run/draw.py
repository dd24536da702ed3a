"""Drawing images from a finished or unfinished run."""

from pathlib import Path

import torch

from ctcontrol import CtcontrolError, Estimate
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.report.tiles import gallery, tiles_of
from ctcontrol_diffusion.run.album import draw, usual_prompts
from ctcontrol_diffusion.run.checkpoint import load_policy
from ctcontrol_diffusion.run.directory import RunDirectory, open_run
from ctcontrol_diffusion.run.files import write_atomically
from ctcontrol_diffusion.run.identity import check_networks
from ctcontrol_diffusion.run.wording import pair
from ctcontrol_diffusion.solvers import DDIM


def draw_gallery(
    folder: Path,
    out: Path,
    *,
    prompts: list[str] | None,
    count: int,
    steps: int | None,
    eta: float,
    seed: int,
    checkpoint: str | None,
    columns: int,
) -> str:
    """Draw from the run in `folder` into `out`; returns a sentence saying what was drawn.

    Args:
        folder: of the run.
        out: PNG file.
        prompts: shared evenly; the usual ones of the run if None.
        count: images in all.
        steps: of the sampler; those of training if None.
        eta: 0 the ODE, 1 ancestral sampling.
        seed: of the noise.
        checkpoint: `last`, `best` or a number of iterations; None for the pretrained model.
        columns: images a row.

    Raises:
        CtcontrolError: no such run or checkpoint, no pictures, or a prompt it cannot take.
        NumericalError: a state or reward is NaN or infinite.
        OSError: `out` cannot be written.
    """
    directory = open_run(folder)
    config = check_config(directory.config)
    path = None if checkpoint is None else checkpoint_path(directory, checkpoint)
    torch.set_num_threads(config.threads)
    experiment = build(config)
    setting, device = experiment.setting, experiment.generator.device
    pictures = setting.pictures
    if pictures is None:
        raise CtcontrolError(
            f"the run in {folder} is not about images, so there is nothing to draw"
        )
    check_networks(directory, experiment)
    _load(experiment, path)
    wanted = list(dict.fromkeys(prompts or usual_prompts(setting, pictures, device)))
    if count < len(wanted):
        raise CtcontrolError(
            f"--n {count} is too few for {len(wanted)} prompts; give --n at least that"
        )
    shares = [count // len(wanted) + (k < count % len(wanted)) for k in range(len(wanted))]
    texts = [prompt for prompt, share in zip(wanted, shares, strict=True) for _ in range(share)]
    steps = steps or config.rollout.steps
    drawn = draw(
        setting.problem,
        setting.mean,
        DDIM(eta),
        pictures.contexts(texts),
        count,
        steps=steps,
        generator=torch.Generator(device).manual_seed(seed),
        micro_batch=config.micro_batch,
    )
    pixels = tiles_of(pictures.decode(drawn.final, drawn.context), [""]).pixels[0]
    rows = dict(zip(wanted, torch.from_numpy(pixels).split(shares), strict=True))
    write_atomically(out, gallery({k: v.numpy() for k, v in rows.items()}, columns))
    reward = Estimate.of(setting.problem.reward.terminal(drawn.final, drawn.context))
    model = "the pretrained model" if path is None else f"{folder} after iteration {int(path.name)}"
    return (
        f"{count} images of {', '.join(wanted)} from {model}, {steps} steps "
        f"({'ODE' if eta == 0 else 'SDE'}): reward {pair(reward.mean, reward.stderr)}; {out}"
    )


def checkpoint_path(directory: RunDirectory, name: str) -> Path:
    """The checkpoint called `last`, `best` or by its number; `auto` is one of the first two.

    What stopped on a held-out reward is left at the best it had, by `auto`.

    Raises:
        CtcontrolError: there is none of that name.
    """
    keeper = directory.keeper
    numbers = keeper.numbers()
    if not numbers:
        raise CtcontrolError(f"{directory.path} has no checkpoint yet; give --base, or train on")
    if name == "auto":
        name = "last" if directory.config.evaluation.stop_on is None else "best"
    if name == "last":
        return keeper.path(numbers[-1])
    if name == "best":
        best = keeper.best(directory.metrics.read())
        return keeper.path(numbers[-1] if best is None else best)
    if not name.isdecimal() or int(name) not in numbers:
        there = ", ".join(map(str, numbers))
        raise CtcontrolError(f"no checkpoint {name!r}; there are last, best and {there}")
    return keeper.path(int(name))


def _load(experiment: Experiment, checkpoint: Path | None) -> None:
    if checkpoint is not None:
        load_policy(checkpoint, experiment)
