"""`python -m ctcontrol_diffusion.compare [PRESET …]`: train presets from several seeds, one table.

Every preset samples the same number of images. Seeds and presets alternate, so that a machine
that drifts slows all of them alike. Exit status: 0 done, 2 bad input, 3 failure, 130 Ctrl-C.
"""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ctcontrol_diffusion._console import command, console
from ctcontrol_diffusion.config import Config

PROGRAM = "python -m ctcontrol_diffusion.compare"


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the presets."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    seeds: int = 5
    """Seeds 0, 1, …, or from --seed on; each trains every preset once."""
    steps: tuple[int, ...] = ()
    """Step counts of the final evaluation; that of the training if none are given."""
    images: int = 500
    """Samples of the final evaluation for every step count."""
    judge: str | None = None
    """A held-out reward that is measured as well, named as problem.reward is."""
    before: bool = False
    """Measure the first preset's model before training, too."""
    out: Path | None = None
    """JSON file for every run's numbers and the command that made them. The same command goes on
    with it after a stop."""
    picture: Path | None = None
    """PNG of the same noise before training and after it, by the first seed of every preset."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; finished runs were written")


def _command(words: list[str]) -> int:
    from ctcontrol import CtcontrolError, check_count

    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    names = words[:count] or ["digits", "digits-ddpo"]
    given = {name: _read(name, words[count:]) for name in dict.fromkeys(names)}
    arguments = next(iter(given.values()))
    check_count("--seeds", arguments.seeds)
    check_count("--images", arguments.images)
    for path in filter(None, (arguments.out, arguments.picture)):
        if not path.parent.is_dir():
            raise CtcontrolError(f"there is no folder {path.parent} to write {path.name} into")
    configs = {name: _shortened(one) for name, one in given.items()}
    from ctcontrol_diffusion.compare._comparison import Comparison

    Comparison(
        configs,
        seeds=arguments.seeds,
        judge=arguments.judge,
        before=arguments.before or arguments.picture is not None,
        out=arguments.out,
        picture=arguments.picture,
        command=shlex.join([*PROGRAM.split(), *words]),
        say=lambda text: console().print(text, markup=False, highlight=False, soft_wrap=True),
    ).complete()
    return 0


def _read(name: str, words: list[str]) -> Arguments:
    from ctcontrol_diffusion._cli import read
    from ctcontrol_diffusion.presets import preset

    return read(
        Arguments(preset(name)),
        words,
        prog=f"{PROGRAM} [PRESET …]",
        description="Train presets from several seeds and compare them. PRESETs come first; "
        "digits and digits-ddpo if none are given. Flags of the config go for all of them; the "
        f"defaults shown are those of {name}.",
        flat="config",
    )


def _shortened(arguments: Arguments) -> Config:
    from ctcontrol_diffusion.check import check_config

    config = arguments.config
    steps = arguments.steps or (config.rollout.steps,)
    evaluation = replace(config.evaluation, steps=steps, images=arguments.images)
    return check_config(replace(config, evaluation=evaluation))


if __name__ == "__main__":
    sys.exit(main())
