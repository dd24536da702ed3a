"""How the commands speak: one sentence for an error, silence from third-party packages."""

import atexit
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console

BAD_INPUT, FAILURE, INTERRUPTED = 2, 3, 130
"""Exit statuses."""

OUT_OF_MEMORY = (
    "out of memory; free some, ask for fewer images at once (--micro-batch, --rollout.batch) or "
    "compute in --problem.precision bfloat16"
)

WIDE = 400

CHATTY = (
    "accelerate",
    "diffusers",
    "transformers",
    "huggingface_hub",
    "torch",
    "tensorboard",
    "matplotlib",
)


def fail(message: object, status: int) -> int:
    """Say what is wrong on one line of stderr; returns the exit status."""
    print(f"error: {' '.join(str(message).split())}", file=sys.stderr)
    return status


def command(work: Callable[[list[str]], int], words: Sequence[str] | None, *, stopped: str) -> int:
    """Do the work of a command line, what goes wrong becoming a sentence; the exit status.

    Args:
        work: takes the words and returns the exit status.
        words: those of the process if None.
        stopped: what to say when Ctrl-C comes.
    """
    atexit.register(gc.freeze)  # else the last search for garbage, in all of torch, takes a second
    try:
        # Torch takes a second to import, in which Ctrl-C must be clean.
        import torch

        from ctcontrol import CtcontrolError, NumericalError

        try:
            with quiet():
                return work(list(sys.argv[1:] if words is None else words))
        except CtcontrolError as error:  # before processes have met, all find the same
            return fail(error, BAD_INPUT) if leads() else BAD_INPUT
        except BrokenPipeError:  # what was read of the output, by `head` say, was enough
            sys.stdout = None
            return 0
        except (NumericalError, OSError) as error:
            return fail(error, FAILURE)
        except (MemoryError, torch.OutOfMemoryError):
            return fail(OUT_OF_MEMORY, FAILURE)
    except KeyboardInterrupt:
        return fail(stopped, INTERRUPTED) if leads() else INTERRUPTED


class Output(Console):
    """A console that falls silent when nobody reads it any more, as after `| head`."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        with suppress(OSError):  # the interpreter flushes standard output once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def console() -> Output:
    """Standard output; files and pipes have room for any table.

    Of several processes only the first is heard.
    """
    here = Output(quiet=not leads())
    return here if here.is_terminal else Output(width=WIDE, quiet=not leads())


def leads() -> bool:
    """Whether this is the first of the processes that a launcher started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def quiet() -> Generator[None]:
    """Keep the progress bars and warnings of third-party packages off the screen."""
    for name in ("DIFFUSERS_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with warnings.catch_warnings():
        for package in CHATTY:
            logging.getLogger(package).setLevel(logging.ERROR)
            warnings.filterwarnings("ignore", module=rf"{package}(\.|$)")
        yield
