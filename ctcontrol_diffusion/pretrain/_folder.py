"""The folder that a pretraining writes into."""

import os
from pathlib import Path

from ctcontrol import CtcontrolError


def make_folder(out: Path) -> None:
    """Make it, and see that it can be written before the work, not after it.

    Raises:
        CtcontrolError: it cannot.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CtcontrolError(
            f"cannot make the folder {out}: {error.strerror}; give another --out"
        ) from error
    if not os.access(out, os.W_OK):
        raise CtcontrolError(f"cannot write into {out}; give another --out")
