"""Rewards that anyone wrote, imported as `module:function`."""

import importlib
import inspect
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards._contract import RewardFunction
from ctcontrol_diffusion.rewards._options import hint


def imported(name: str) -> RewardFunction:
    """What `module:function` names; raises `CtcontrolError` as `load_reward` says."""
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
                f"for; {hint(part, _public(thing))}define it there or correct the name"
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
