"""Command lines over frozen dataclasses, with one sentence for whatever cannot be read."""

import difflib
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from ctcontrol import CtcontrolError

T = TypeVar("T")


def read(default: T, words: Sequence[str], *, prog: str, description: str, flat: str = "") -> T:
    """`default` with the fields replaced that `words` name, as `--section.field value`.

    Args:
        default: a frozen dataclass, possibly of dataclasses; a union field keeps the type it has
            here. The docstrings below its fields are the help.
        words: what stood on the command line.
        prog: the command, for the help.
        description: first paragraph of the help.
        flat: name of the field whose own fields go without its name before them.

    Raises:
        CtcontrolError: one sentence about the first word that does not fit.
        SystemExit: 0, after `--help`.
    """

    def parsed(some: Sequence[str], *, talk: bool = False) -> T:
        with redirect_stderr(sys.stderr if talk else io.StringIO()):
            return tyro.cli(
                type(default),
                args=list(some),
                default=default,
                prog=prog,
                description=description,
                config=(tyro.conf.AvoidSubcommands,),
            )

    if "--help" in words or "-h" in words:
        parsed(["--help"], talk=True)
    known = dict(flags(default, flat))
    groups = list(_groups(words, known, prog))
    named = [_flag(group[0]) for group in groups]
    for flag in {flag for flag in named if named.count(flag) > 1}:
        raise CtcontrolError(f"{flag} is given {named.count(flag)} times; give it once")
    try:
        return parsed(words)
    except SystemExit:
        pass
    for group in groups:
        try:
            parsed(group)
        except SystemExit:
            flag = _flag(group[0])
            got = " ".join(group[1:]) or group[0].partition("=")[2]
            said = f"got {got!r}" if got else "but nothing follows it"
            raise CtcontrolError(f"{flag} takes {_kind(known[flag])}, {said}") from None
    raise CtcontrolError(f"cannot read {' '.join(words)!r}; see {prog} --help")


def read_after(
    default: T, words: Sequence[str], *, prog: str, description: str, question: str
) -> tuple[str, T]:
    """The word that comes first, and the rest as in `read`.

    Raises:
        CtcontrolError: nothing comes first, which is what `question` asks for; or as `read`.
        SystemExit: 0, after `--help`.
    """
    named = bool(words) and not words[0].startswith("-")
    rest = words[1:] if named else words
    value = read(default, rest, prog=prog, description=description)
    if not named:
        raise CtcontrolError(question)
    return words[0], value


def flags(value: Any, flat: str = "", prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(flag, type) of every leaf of a dataclass of dataclasses."""
    hints = get_type_hints(type(value))
    for field in fields(value):
        inner = getattr(value, field.name)
        if is_dataclass(inner):
            below = prefix if field.name == flat else f"{prefix}{field.name}."
            yield from flags(inner, flat, below)
        else:
            yield f"--{prefix}{field.name}".replace("_", "-"), hints[field.name]


def suggestion(flag: str, known: Sequence[str]) -> str:
    """`; did you mean '--x.y'?` for the closest of `known`, its own section first, or nothing."""

    def split(word: str) -> tuple[str, str]:
        section, _, last = word.removeprefix("--").rpartition(".")
        return section, last

    section, last = split(flag)
    near = [name for name in known if split(name)[0] == section]
    for some in (near, known):
        close = difflib.get_close_matches(last, [split(name)[1] for name in some], n=1)
        if close:
            meant = next(name for name in some if split(name)[1] == close[0])
            return f"; did you mean {meant!r}?"
    return ""


def _flag(word: str) -> str:
    return word.partition("=")[0].replace("_", "-")


def _groups(words: Sequence[str], known: dict[str, Any], prog: str) -> Iterator[list[str]]:
    """Each flag with the words that belong to it; raises for a word that belongs nowhere."""
    known = known | {f"--no-{flag[2:]}": kind for flag, kind in known.items() if kind is bool}
    group: list[str] = []
    room = 0
    for word in words:
        if word.startswith("--"):
            if group:
                yield group
            flag = _flag(word)
            if flag not in known:
                hint = suggestion(flag, list(known))
                raise CtcontrolError(f"there is no {flag}{hint or f'; see {prog} --help'}")
            group = [word]
            kind = known[flag]
            room = 0 if kind is bool or "=" in word else 10**6 if get_origin(kind) is tuple else 1
        elif room > 0:
            group.append(word)
            room -= 1
        else:
            raise CtcontrolError(
                f"{word!r} stands where a flag was expected; flags look like --section.field value"
            )
    if group:
        yield group


def _kind(kind: Any) -> str:
    """What a type takes, in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        words = ", ".join(map(str, arguments))
        return f"one of {words}" if len(arguments) > 1 else words
    if origin is tuple:
        return "whole numbers" if int in arguments else "values"
    if arguments:  # a union
        return " or ".join(_kind(part) for part in arguments if part is not type(None))
    names = {int: "a whole number", float: "a number", bool: "no value", str: "a value"}
    return names.get(kind, "a path")
