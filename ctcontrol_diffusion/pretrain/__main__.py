"""``python -m ctcontrol_diffusion.pretrain digits [--field value …]``."""

import sys
from collections.abc import Sequence

BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one pretraining; returns the exit status (0, 2 bad input, 130 interrupted)."""
    try:
        # Imported here because torch and diffusers take seconds, during which Ctrl-C must be clean.
        import tyro
        from rich.console import Console

        from ctcontrol import CtcontrolError

        from ._config import DigitsPretraining
        from .digits import pretrain_digits

        config = tyro.extras.subcommand_cli_from_dict(
            {"digits": DigitsPretraining},
            args=arguments,
            prog="python -m ctcontrol_diffusion.pretrain",
            description="Train the models that ship with the package.",
        )
        console = Console(stderr=True)
        try:
            pretrain_digits(config, console)
        except CtcontrolError as error:
            console.print(f"error: {error}", style="red", markup=False, highlight=False)
            return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
