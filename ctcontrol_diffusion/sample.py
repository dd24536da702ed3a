"""`python -m ctcontrol_diffusion.sample RUN [--prompts 3,7 …]`: draw images from a run.

Exit status: 0 done, 2 bad input, 3 failure while drawing, 130 stopped by Ctrl-C.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctcontrol_diffusion._console import command, console

PROGRAM = "python -m ctcontrol_diffusion.sample"


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the run."""

    prompts: str | None = None
    """Prompts between commas; each that the run was trained on, up to ten, if none are given."""
    n: int = 64
    """Images in all, shared evenly by the prompts."""
    steps: int | None = None
    """Steps of the sampler; as many as in training if not given."""
    solver: Literal["ode", "sde"] = "sde"
    """ode: deterministic DDIM. sde: ancestral sampling."""
    seed: int = 0
    """Seed of the noise; runs of the same model draw corresponding images from the same seed."""
    out: Path = Path("grid.png")
    """PNG file to write; an older one is replaced."""
    checkpoint: str = "auto"
    """last | best (by the reward that evaluation.stop-on names, else by mean return) | number of
    iterations | auto: best if the run stops on a reward, else last."""
    base: bool = False
    """Draw from the pretrained model instead."""
    columns: int = 8
    """Images a row."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; nothing was written")


def _command(words: Sequence[str]) -> int:
    from ctcontrol_diffusion._cli import read_after

    folder, arguments = read_after(
        Arguments(),
        words,
        prog=f"{PROGRAM} RUN",
        description="Draw images from a run. RUN, its folder, comes first.",
        question=f"which run? give its folder first: {PROGRAM} RUN",
    )
    _check(arguments)
    from ctcontrol_diffusion.run.draw import draw_gallery

    done = draw_gallery(
        Path(folder),
        arguments.out,
        prompts=_prompts(arguments.prompts),
        count=arguments.n,
        steps=arguments.steps,
        eta=0.0 if arguments.solver == "ode" else 1.0,
        seed=arguments.seed,
        checkpoint=None if arguments.base else arguments.checkpoint,
        columns=arguments.columns,
    )
    console().print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


def _prompts(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",")]


def _check(arguments: Arguments) -> None:
    from ctcontrol import CtcontrolError

    for flag, value, least in (
        ("--n", arguments.n, 1),
        ("--steps", arguments.steps, 1),
        ("--seed", arguments.seed, 0),
        ("--columns", arguments.columns, 1),
    ):
        if value is not None and not least <= value < 2**62:
            raise CtcontrolError(f"{flag} must be a whole number >= {least}, got {value}")
    if arguments.out.suffix.lower() != ".png":
        raise CtcontrolError(f"--out must end in .png, got {arguments.out}")
    if not arguments.out.resolve().parent.is_dir():
        raise CtcontrolError(f"--out: there is no folder {arguments.out.parent}; make it first")
    if "" in (_prompts(arguments.prompts) or []):
        raise CtcontrolError(f"--prompts {arguments.prompts!r} has an empty prompt; see --help")


if __name__ == "__main__":
    sys.exit(main())
