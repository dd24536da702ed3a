"""`python -m ctcontrol_diffusion.export RUN --out DIR`: trained weights for other programs.

Exit status: 0 done, 2 bad input, 3 what was written is not what was trained, or cannot be written,
130 stopped by Ctrl-C. DIR appears complete or not at all.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcontrol_diffusion._console import FAILURE, command, console, fail

PROGRAM = "python -m ctcontrol_diffusion.export"


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the run."""

    out: Path | None = None
    """Folder to write, which must not exist yet: pytorch_lora_weights.safetensors of an adapter, or
    a whole pipeline, with a model card."""
    checkpoint: str = "auto"
    """last | best (by the reward that evaluation.stop-on names, else by mean return) | number of
    iterations | auto: best if the run stops on a reward, else last."""
    device: str | None = None
    """cpu, cuda or cuda:N; that of the run if none."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; nothing was written")


def _command(words: list[str]) -> int:
    from ctcontrol_diffusion._cli import read_after

    folder, arguments = read_after(
        Arguments(),
        words,
        prog=f"{PROGRAM} RUN",
        description="Write what a run trained for other programs. RUN, its folder, comes first.",
        question=f"which run? give its folder first: {PROGRAM} RUN --out DIR",
    )
    from ctcontrol_diffusion.publish import Mismatch
    from ctcontrol_diffusion.run.export import export_run
    from ctcontrol_diffusion.run.files import free_folder

    out = free_folder("--out", arguments.out)
    try:
        done = export_run(Path(folder), out, arguments.checkpoint, arguments.device)
    except Mismatch as error:
        return fail(f"{error}; nothing was written", FAILURE)
    console().print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
