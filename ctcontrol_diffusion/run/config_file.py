"""A config as JSON and as a command line, and back."""

import shlex
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.presets import preset as preset_called

TYPE = "type"
"""Key that tells which of several dataclasses a field holds."""
FORMER: dict[str, dict[str, Any]] = {"Update": {"credited": 1.0, "averaged": 0.0}}
"""Dataclass -> field -> what a run did before there was the field, where that is no default now."""


def config_to_json(config: Config) -> dict[str, Any]:
    """Nested plain values; the problem says its type."""
    return asdict(config) | {
        "problem": {TYPE: type(config.problem).__name__} | asdict(config.problem)
    }


def config_from_json(data: Any) -> Config:
    """The inverse of `config_to_json`.

    Raises:
        CtcontrolError: a field is missing, unknown or of the wrong kind.
    """
    return _value(Config, data, "config")


def command_line(preset: str, config: Config, run_dir: Path | None = None) -> str:
    """The shortest command that gives this config."""
    words = ["python", "-m", "ctcontrol_diffusion.train", preset]
    words += _changes(preset_called(preset), config, "")
    if run_dir is not None:
        words += ["--run-dir", str(run_dir)]
    return shlex.join(words)


def _changes(default: Any, value: Any, prefix: str) -> list[str]:
    words: list[str] = []
    for field in fields(value):
        old, new = getattr(default, field.name), getattr(value, field.name)
        if is_dataclass(new):
            words += _changes(old, new, f"{prefix}{field.name}.")
        elif new != old:
            several = new if isinstance(new, tuple) else (new,)
            words += [f"--{prefix}{field.name}".replace("_", "-"), *map(str, several)]
    return words


def _value(kind: Any, data: Any, name: str) -> Any:
    parts = get_args(kind)
    if is_dataclass(kind):
        return _dataclass(kind, data, name)
    if get_origin(kind) is tuple:
        if not isinstance(data, list):
            raise CtcontrolError(f"{name} should be a list, got {data!r}")
        return tuple(_value(parts[0], entry, name) for entry in data)
    if get_origin(kind) is Literal:
        if data not in parts:
            raise CtcontrolError(f"{name} should be one of {', '.join(parts)}, got {data!r}")
        return data
    if parts and all(map(is_dataclass, parts)):
        return _one_of(parts, data, name)
    if parts:
        return _any_of(parts, data, name)
    if kind is float and type(data) is int:
        return float(data)
    if type(data) is not kind:
        raise CtcontrolError(f"{name} should be of type {kind.__name__}, got {data!r}")
    return data


def _one_of(kinds: tuple[Any, ...], data: Any, name: str) -> Any:
    """The dataclass that the data say they are."""
    said = data.get(TYPE) if isinstance(data, dict) else None
    for kind in kinds:
        if kind.__name__ == said:
            return _dataclass(kind, {k: v for k, v in data.items() if k != TYPE}, name)
    raise CtcontrolError(f"{name}.{TYPE} is {said!r}, which this version does not know")


def _any_of(kinds: tuple[Any, ...], data: Any, name: str) -> Any:
    for kind in kinds:
        try:
            return _value(kind, data, name)
        except CtcontrolError:
            continue
    raise CtcontrolError(f"{name} should be something else than {data!r}")


def _dataclass(kind: Any, data: Any, name: str) -> Any:
    if not isinstance(data, dict):
        raise CtcontrolError(f"{name} should hold named values, got {data!r}")
    hints = get_type_hints(kind)
    unknown = [key for key in data if key not in hints]
    if unknown:
        raise CtcontrolError(f"{name}.{unknown[0]} is not a field that this version knows")
    # A field that an older version did not have takes what that version did: today's default,
    # unless another value is known.
    known = {key: _value(hints[key], entry, f"{name}.{key}") for key, entry in data.items()}
    return kind(**FORMER.get(kind.__name__, {}) | known)
