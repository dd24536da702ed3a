"""`python -m ctcontrol_diffusion.convert SOURCE --out DIR --model BASE`: adapters that load.

SOURCE is a folder that PEFT wrote, which today's pipelines load without any effect, or attention
processors of ddpo-pytorch and diffusers 0.17. DIR gets pytorch_lora_weights.safetensors.

Exit status: 0 done, 2 bad input, 3 what was written is not what was read, or cannot be written,
130 stopped by Ctrl-C. DIR appears complete or not at all.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcontrol_diffusion._console import FAILURE, command, console, fail

PROGRAM = "python -m ctcontrol_diffusion.convert"


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the source."""

    out: Path | None = None
    """Folder to write, which must not exist yet."""
    model: str | None = None
    """Folder of the diffusers pipeline that the adapter was trained on, or its id on the hub."""
    prompts: str = "a cat,a dog"
    """Prompts between commas, of the images by which the adapter is compared."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; nothing was written")


def _command(words: list[str]) -> int:
    from ctcontrol import CtcontrolError
    from ctcontrol_diffusion._cli import read_after

    source, arguments = read_after(
        Arguments(),
        words,
        prog=f"{PROGRAM} SOURCE",
        description="Make adapters load in diffusers. SOURCE, their folder or file, comes first.",
        question=f"which adapter? give its folder first: {PROGRAM} SOURCE",
    )
    if arguments.model is None:
        raise CtcontrolError("which model is it for? give --model FOLDER or the id of a hub")
    from ctcontrol_diffusion.publish import Mismatch
    from ctcontrol_diffusion.run.convert import convert_adapter
    from ctcontrol_diffusion.run.files import free_folder

    try:
        done = convert_adapter(
            Path(source).expanduser(),
            free_folder("--out", arguments.out),
            arguments.model,
            [prompt.strip() for prompt in arguments.prompts.split(",")],
            arguments.device,
        )
    except Mismatch as error:
        return fail(f"{error}; nothing was written", FAILURE)
    console().print(done, markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
