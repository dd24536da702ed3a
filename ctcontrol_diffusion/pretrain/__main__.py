"""`python -m ctcontrol_diffusion.pretrain digits [--field value …]`.

Exit status: 0 done, 2 bad input, 3 failure during the run, 130 stopped by Ctrl-C.
"""

import sys
from collections.abc import Sequence

from ctcontrol_diffusion._console import command

PROGRAM = "python -m ctcontrol_diffusion.pretrain"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="interrupted; nothing was written")


def _command(words: list[str]) -> int:
    from rich.console import Console

    from ctcontrol import CtcontrolError
    from ctcontrol_diffusion._cli import read

    from ._config import DigitsPretraining
    from .digits import pretrain_digits

    if words[:1] in (["-h"], ["--help"]):
        print(
            f"usage: {PROGRAM} digits [--field value …]; {PROGRAM} digits --help lists the fields"
        )
        return 0
    if words[:1] != ["digits"]:
        said = f"got {words[0]!r}" if words else "but nothing follows"
        raise CtcontrolError(f"{PROGRAM} takes the models to train, 'digits', {said}")
    config = read(
        DigitsPretraining(),
        words[1:],
        prog=f"{PROGRAM} digits",
        description="Train the digits denoiser and its two classifiers from nothing, within half "
        "an hour on 2 cores. All files are written together at the end.",
    )
    pretrain_digits(config, Console(stderr=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
