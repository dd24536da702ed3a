"""`python -m ctcontrol_diffusion.critics [PRESET] [--flag value …]`: errors of value networks.

V(t, x) of the pretrained model is estimated by many ways to go on from the same (t, x), and every
value network is measured against it: as it begins, and fitted to images of the pretrained model.
Exit status: 0 done, 2 bad input, 3 failure, 130 Ctrl-C.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from ctcontrol_diffusion._console import command, console
from ctcontrol_diffusion.config import Config

PROGRAM = "python -m ctcontrol_diffusion.critics"


@dataclass(frozen=True)
class Arguments:
    """What the command takes."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    networks: tuple[str, ...] = ()
    """Names of value networks; all there are if none are given."""
    images: int = 1200
    """Images of the pretrained model that each network is fitted to, in whole batches."""
    levels: int = 5
    """Times at which values are compared, evenly from the first step to the last."""
    states: int = 40
    """States at each time."""
    draws: int = 64
    """Ways to go on from each state: the Monte-Carlo estimate of its value."""
    rounds: int = 3
    """Training iterations of each network that are timed beside those of DDPO; 0 for none."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON file for all numbers and the command that made them."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; nothing was written")


def _command(words: list[str]) -> int:
    arguments = parse(words)
    import torch

    from ctcontrol_diffusion.critics._study import fitted, pretrained, timed
    from ctcontrol_diffusion.critics._table import markdown, numbers
    from ctcontrol_diffusion.critics._truth import levels_of
    from ctcontrol_diffusion.critics._variants import NAMES
    from ctcontrol_diffusion.run.files import to_json, write_atomically

    config, say = arguments.config, console().print
    torch.set_num_threads(config.threads)
    levels = levels_of(pretrained(config), arguments.levels, arguments.states, arguments.draws)
    say(f"values of {arguments.states} states at {len(levels)} times estimated")
    names = arguments.networks or NAMES
    outcomes = fitted(config, names, levels, lambda name: say(f"fitted: {name}"))
    if arguments.rounds:
        outcomes = timed(config, outcomes, arguments.rounds)
    say(markdown(levels, outcomes), soft_wrap=True, highlight=False)
    if arguments.out is not None:
        content = {"command": " ".join([PROGRAM, *words])} | numbers(levels, outcomes)
        write_atomically(arguments.out, to_json(content, indent=2) + "\n")
    return 0


def parse(words: Sequence[str]) -> Arguments:
    """The arguments, whose config makes as many iterations as there are batches of images.

    Raises:
        CtcontrolError: words that cannot be read, numbers out of their range, unknown networks.
    """
    from ctcontrol import check_count
    from ctcontrol_diffusion._cli import read
    from ctcontrol_diffusion.check import check_config
    from ctcontrol_diffusion.critics._variants import NAMES, variant
    from ctcontrol_diffusion.presets import PRESETS, preset

    named = bool(words) and not words[0].startswith("-")
    name = words[0] if named else next(iter(PRESETS))
    arguments = read(
        Arguments(preset(name)),
        words[1:] if named else words,
        prog=f"{PROGRAM} [PRESET]",
        description="Measure value networks against a Monte-Carlo estimate of the value. PRESET "
        f"comes first; the defaults shown are those of {name}. Networks: {', '.join(NAMES)}.",
        flat="config",
    )
    for flag, value, least in (
        ("--images", arguments.images, 1),
        ("--levels", arguments.levels, 2),
        ("--states", arguments.states, 2),
        ("--draws", arguments.draws, 2),
        ("--rounds", arguments.rounds, 0),
    ):
        check_count(flag, value, least)
    batches = -(-arguments.images // arguments.config.rollout.batch)
    config = check_config(replace(arguments.config, algorithm="ctrl", iterations=batches))
    for each in arguments.networks or NAMES:
        check_config(variant(config, each))
    return replace(arguments, config=config)


if __name__ == "__main__":
    sys.exit(main())
