"""Reading pipelines of diffusers, quietly, with one sentence for whatever cannot be read."""

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from ctcontrol import CtcontrolError


@contextmanager
def loading(model: str) -> Generator[None]:
    """Around the loading of `model`: neither progress bars nor warnings.

    Raises:
        CtcontrolError: in place of what the libraries raise.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # diffusers, of the hub's own deprecations
            yield
    except CtcontrolError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CtcontrolError(
            f"cannot load the model {model!r} ({reason}); give --problem.model a folder with the "
            "model_index.json of a diffusers pipeline, or go online if it is the id of a hub"
        ) from error


def class_of(part: object) -> str | None:
    """The class of a component of model_index.json, a pair (library, class)."""
    return part[1] if isinstance(part, Sequence) and len(part) == 2 else None
