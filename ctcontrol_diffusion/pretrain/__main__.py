"""``python -m ctcontrol_diffusion.pretrain digits [--field value …]``."""

import sys
from collections.abc import Sequence

BAD_INPUT = 2
FAILED = 3
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one pretraining; returns the exit status (0, 2 bad input, 3 failed, 130 interrupted)."""
    try:
        # Imported here because torch and diffusers take seconds, during which Ctrl-C must be clean.
        import tyro
        from rich.console import Console

        from ctcontrol import CtcontrolError, NumericalError

        from ._config import DigitsPretraining
        from .digits import pretrain_digits

        console = Console(stderr=True)
        try:
            config = tyro.extras.subcommand_cli_from_dict(
                {"digits": DigitsPretraining},
                args=arguments,
                prog="python -m ctcontrol_diffusion.pretrain",
                description="Train the models that ship with the package.",
            )
            pretrain_digits(config, console)
        except (CtcontrolError, NumericalError) as error:
            console.print(
                f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            return BAD_INPUT if isinstance(error, CtcontrolError) else FAILED
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
