"""Files that appear whole or not at all."""

import json
import math
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctcontrol import CtcontrolError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `path` so that a reader, or a crash, sees the old content or the new one.

    Raises:
        OSError: the content could not be written; the old file is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def free_folder(flag: str, path: Path | None) -> Path:
    """The folder given by a flag, absolute; raises `CtcontrolError` unless it can be made."""
    if path is None:
        raise CtcontrolError(f"where to? give a folder that does not exist yet: {flag} DIR")
    path = path.expanduser().absolute()
    if path.exists():
        raise CtcontrolError(f"{flag}: {path} exists; give a folder that does not")
    if not path.parent.is_dir():
        raise CtcontrolError(f"{flag}: there is no folder {path.parent}; make it first")
    return path


@contextmanager
def whole_folder(path: Path) -> Generator[Path]:
    """A new folder to write into, which becomes `path` when the block ends well.

    If it does not, nothing is left.

    Raises:
        FileExistsError: `path` exists.
        OSError: it cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        for inside in temporary.rglob("*"):
            if inside.is_file():
                sync_file(inside)
        sync_folder(temporary)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def finite(value: Any) -> Any:
    """The same with None for every number that is not finite; tuples become lists."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(entry) for key, entry in value.items()}
        case list() | tuple():
            return [finite(entry) for entry in value]
        case _:
            return value
