"""Rewards with options in one word, `name,option=value,…`."""

import difflib
import inspect
import types
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

from ctcontrol import CtcontrolError


def hint(name: str, known: Iterable[str]) -> str:
    """ "did you mean …? " if a known name is near, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """`name,a=1,b=x` -> ("name", {"a": "1", "b": "x"}).

    Raises:
        CtcontrolError: for a part that is not option=value, or an option given twice.
    """
    name, *parts = text.split(",")
    options: dict[str, str] = {}
    for part in parts:
        option, sign, value = (x.strip() for x in part.partition("="))
        if not (option and sign and value):
            raise CtcontrolError(
                f"reward {text!r} must have the form name,option=value,… but has the part {part!r}"
            )
        if option in options:
            raise CtcontrolError(f"reward {text!r} gives the option {option!r} twice; give it once")
        options[option] = value
    return name.strip(), options


def made(name: str, make: Callable[..., Any], options: dict[str, str], **given: Any) -> Any:
    """`make(**options)`, each text turned into what `make` annotates.

    Args:
        name: of the reward, for messages.
        make: a function or class with annotated parameters.
        options: of the user.
        given: what the user does not choose here; passed where `make` takes it and no option says
            otherwise.

    Raises:
        CtcontrolError: for an option that is unknown, has a value of another kind, or is needed
            and missing.
    """
    parameters = inspect.signature(make).parameters
    for option in options:
        if option not in parameters:
            there = ", ".join(parameters) or "none"
            raise CtcontrolError(
                f"reward {name!r} has no option {option!r}; {hint(option, parameters)}its options "
                f"are {there}"
            )
    values = {key: value for key, value in given.items() if key in parameters}
    values |= {key: _value(name, key, v, parameters[key].annotation) for key, v in options.items()}
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in values:
            raise CtcontrolError(f"reward {name!r} needs the option {key}, as in {name},{key}=…")
    return make(**values)


def _value(name: str, option: str, text: str, kind: Any) -> Any:
    kinds = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if type(None) in kinds and text == "none":
        return None
    for one in kinds:
        if get_origin(one) is Literal and text in get_args(one):
            return text
        if one in (int, float, str):
            try:
                return one(text)
            except ValueError:
                continue
    wanted = " or ".join(_shown(one) for one in kinds)
    raise CtcontrolError(
        f"the option {option} of the reward {name!r} must be {wanted}, got {text!r}"
    )


def _shown(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    return {int: "a whole number", float: "a number", type(None): "none"}.get(kind, "a text")
