"""`python -m ctcontrol_diffusion.pretrain digits | cifar10 [--field value …]`.

Exit status: 0 done, 2 bad input, 3 failure during the run, 130 stopped by Ctrl-C.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from ctcontrol_diffusion._console import INTERRUPTED, command

PROGRAM = "python -m ctcontrol_diffusion.pretrain"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="interrupted; nothing is half written")


def _command(words: list[str]) -> int:
    from ctcontrol import CtcontrolError

    if words[:1] in (["-h"], ["--help"]):
        print(
            f"usage: {PROGRAM} digits [--field value …], or {PROGRAM} cifar10 --images PATH "
            f"[--field value …]; {PROGRAM} digits --help lists the fields"
        )
        return 0
    commands = {"digits": _digits, "cifar10": _pixels}
    if words and words[0] in commands:
        return commands[words[0]](words[1:])
    said = f"got {words[0]!r}" if words else "but nothing follows"
    raise CtcontrolError(f"{PROGRAM} takes the models to train, 'digits' or 'cifar10', {said}")


def _digits(words: list[str]) -> int:
    from rich.console import Console

    from ctcontrol_diffusion._cli import read

    from ._config import DigitsPretraining
    from .digits import pretrain_digits

    config = read(
        DigitsPretraining(),
        words,
        prog=f"{PROGRAM} digits",
        description="Train the digits denoiser and its two classifiers from nothing, within half "
        "an hour on 2 cores. All files are written together at the end.",
    )
    pretrain_digits(config, Console(stderr=True))
    return 0


def _pixels(words: list[str]) -> int:
    from rich.console import Console

    from ctcontrol import CtcontrolError
    from ctcontrol_diffusion._cli import read

    from . import pixels
    from ._pixel_config import PixelPretraining

    console = Console(stderr=True)
    if "--resume" in words:
        if len(words) != 2 or words[0] != "--resume":
            raise CtcontrolError(
                f"--resume takes a folder and nothing else, because a pretraining continues just "
                f"as it was started: {PROGRAM} cifar10 --resume DIR"
            )
        out = Path(words[1])
        finished = pixels.resume(out, console)
    else:
        config = read(
            PixelPretraining(),
            words,
            prog=f"{PROGRAM} cifar10",
            description="Train a diffusion model of small images, without prompts, from nothing; "
            "OUT/model is then a pipeline of diffusers for --problem.model of the presets "
            "cifar10-*. Stop it at any moment: --resume OUT, and nothing else, continues it.",
        )
        out = config.out
        finished = pixels.start(config, console)
    if not finished:
        console.print(
            f"stopped; continue with: {PROGRAM} cifar10 --resume {out}",
            highlight=False,
            soft_wrap=True,
        )
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
