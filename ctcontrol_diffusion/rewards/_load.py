"""Rewards by name: the built-in ones, and anyone's as `module:function`."""

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards._alignment import ClassifierAlignment
from ctcontrol_diffusion.rewards._checked import CheckedReward
from ctcontrol_diffusion.rewards._contract import RewardFunction
from ctcontrol_diffusion.rewards._jpeg import JPEGCompressibility, JPEGIncompressibility
from ctcontrol_diffusion.rewards._pixels import Brightness, Symmetry

_ALIGNMENT = "alignment"
_BUILT_IN: dict[str, Callable[[], RewardFunction]] = {
    "jpeg-compressibility": JPEGCompressibility,
    "jpeg-incompressibility": JPEGIncompressibility,
    "brightness": Brightness,
    "symmetry": Symmetry,
}


def reward_names() -> tuple[str, ...]:
    """The names of the built-in rewards; the first is `alignment`, which needs a classifier."""
    return (_ALIGNMENT, *_BUILT_IN)


def load_reward(
    name: str, *, classifier: Callable[[Tensor], Tensor] | None = None
) -> CheckedReward:
    """The reward called `name`, checked at every call.

    Args:
        name: one of :func:`reward_names`, or `module:function` for a :class:`RewardFunction` that
            can be imported from the current directory or the installed packages. `function` may
            be any attribute, also of attributes (`module:CONFIG.reward`), that is callable.
        classifier: images in [−1, 1] -> logits; `alignment` alone needs it.

    Raises:
        CtcontrolError: when the name is unknown or lacks its classifier; when the module is not
            found or fails to import; when the attribute is missing, not callable, a class, or
            cannot be called with (images, prompts, metadata).
    """
    if ":" in name:
        return CheckedReward(name, _imported(name))
    if name == _ALIGNMENT:
        if classifier is None:
            raise CtcontrolError(
                f"the reward {name!r} needs a classifier; use a setting that has one, or name "
                f"another reward: {', '.join(_BUILT_IN)}"
            )
        return CheckedReward(name, ClassifierAlignment(classifier))
    if name not in _BUILT_IN:
        raise CtcontrolError(
            f"unknown reward {name!r}; {_hint(name, reward_names())}there are "
            f"{', '.join(reward_names())}, and your own as module:function"
        )
    return CheckedReward(name, _BUILT_IN[name]())


def _imported(name: str) -> RewardFunction:
    where, _, path = name.partition(":")
    if where.endswith(".py") or "/" in where:
        raise CtcontrolError(
            f"reward {name!r} names a file; start the program in its folder and name the module, "
            f"{Path(where).stem}:{path}"
        )
    if not all(part.isidentifier() for part in (*where.split("."), *path.split("."))):
        raise CtcontrolError(f"reward {name!r} must have the form module:function")
    thing: Any = _module(name, where)
    reached = where
    for part in path.split("."):
        if not hasattr(thing, part):
            raise CtcontrolError(
                f"{reached!r}{_file_of(thing)} has no {part!r}, which the reward {name!r} asks "
                f"for; {_hint(part, _public(thing))}define it there or correct the name"
            )
        thing = getattr(thing, part)
        reached = f"{reached}.{part}"
    return _callable(name, thing)


def _module(name: str, where: str) -> ModuleType:
    try:
        with _current_directory_importable():
            return importlib.import_module(where)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if where == missing or where.startswith(f"{missing}."):
            raise CtcontrolError(
                f"no module {missing!r} for the reward {name!r} in {Path.cwd()} or the installed "
                "packages; start the program where the file is, or correct the name"
            ) from error
        raise CtcontrolError(
            f"the module {where!r} of the reward {name!r} imports {missing!r}, which is not "
            "installed; install it or remove the import"
        ) from error
    except (Exception, SystemExit) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise CtcontrolError(
            f"the module {where!r} of the reward {name!r} cannot be imported, it raises "
            f"{type(error).__name__}: {reason}; correct it first"
        ) from error


def _callable(name: str, thing: Any) -> Any:
    form = "a function (images, prompts, metadata) -> (rewards, info)"
    if inspect.isclass(thing):
        raise CtcontrolError(f"reward {name!r} is a class; name an instance of it or {form}")
    if not callable(thing):
        raise CtcontrolError(f"reward {name!r} is of type {type(thing).__name__}, not {form}")
    try:
        signature = inspect.signature(thing)
    except ValueError:  # some functions written in C have none; the first call will tell
        return thing
    try:
        signature.bind(None, None, None)
    except TypeError:
        raise CtcontrolError(
            f"reward {name!r} takes {signature}; it must be {form}, called with three arguments"
        ) from None
    return thing


@contextmanager
def _current_directory_importable() -> Generator[None, None, None]:
    """As under `python -m`, also for programs that were started otherwise."""
    here = str(Path.cwd())
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        importlib.invalidate_caches()
        yield
    finally:
        sys.path.remove(here)


def _file_of(thing: Any) -> str:
    file = thing.__file__ if isinstance(thing, ModuleType) else None
    return f" ({file})" if file else ""


def _public(thing: Any) -> list[str]:
    return [name for name in dir(thing) if not name.startswith("_")]


def _hint(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""
