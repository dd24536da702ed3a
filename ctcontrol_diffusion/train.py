"""`python -m ctcontrol_diffusion.train [PRESET] [--section.field value …]`: fine-tune a model.

Exit status: 0 done, 2 bad input, 3 failure during the run, 130 stopped by Ctrl-C or SIGTERM.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ctcontrol_diffusion._console import command, leads
from ctcontrol_diffusion.config import Config

PROGRAM = "python -m ctcontrol_diffusion.train"


@dataclass(frozen=True)
class Arguments:
    """What the command takes."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of the new run; runs/PRESET-TIME if none is given."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Continue the run in this folder as it was started; takes no other flags."""
    dry_run: bool = False
    """Print the config as JSON and stop."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped before anything was begun")


def _command(words: Sequence[str]) -> int:
    from ctcontrol_diffusion.check import check_config

    name, arguments = parse(words)
    config = check_config(arguments.config)
    if arguments.dry_run:
        from ctcontrol_diffusion.run.config_file import config_to_json
        from ctcontrol_diffusion.run.files import to_json

        if leads():
            print(to_json({"preset": name, "config": config_to_json(config)}, indent=2))
        return 0
    from ctcontrol_diffusion.run import process  # pictures and tables take a second to import

    if arguments.resume is not None:
        return process.resume(arguments.resume)
    return process.start(name, config, arguments.run_dir)


def parse(words: Sequence[str]) -> tuple[str, Arguments]:
    """The preset and the arguments; raises `CtcontrolError` for words that cannot be read."""
    from ctcontrol import CtcontrolError
    from ctcontrol_diffusion._cli import read
    from ctcontrol_diffusion.presets import PRESETS, preset

    named = bool(words) and not words[0].startswith("-")
    name = words[0] if named else next(iter(PRESETS))
    rest = words[1:] if named else words
    arguments = read(
        Arguments(preset(name)),
        rest,
        prog=f"{PROGRAM} [PRESET]",
        description="Fine-tune a model by continuous-time reinforcement learning. PRESET comes "
        f"first and is one of {', '.join(PRESETS)}; the defaults shown are those of {name}.",
        flat="config",
    )
    if arguments.resume is not None and (
        named or arguments != Arguments(preset(name), resume=arguments.resume)
    ):
        raise CtcontrolError(
            "--resume takes nothing else, because a run continues just as it was started; leave "
            f"the rest out: {PROGRAM} --resume {arguments.resume}"
        )
    return name, arguments


if __name__ == "__main__":
    sys.exit(main())
