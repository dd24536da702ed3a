"""Images from .npz files, without pickle, or from a folder of pictures."""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ctcontrol import CtcontrolError

TILE = 32
PICTURES = (".png", ".jpg", ".jpeg")


def read_images(path: Path) -> Tensor:
    """(n, channels, height, width), uint8, of an .npz, or of a folder, by name.

    A folder holds .npz files, or else pictures, PNG or JPEG, all of one size, in itself and in
    folders below. An .npz holds either `images`, uint8 (n, height, width, channels), or lossless
    pictures `sheet_000`, … as the bytes of their files, each of 32 × 32 tiles read row by row, of
    which the first n are counted by `n`.

    Raises:
        CtcontrolError: nothing is there, a file holds neither, or sizes differ.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if path.is_dir() and not files:
        pictures = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
        if pictures:
            return _stacked(pictures)
    if not files or not all(file.is_file() for file in files):
        raise CtcontrolError(
            f"there are no images at {path}; give an .npz, or a folder of them or of PNG and JPEG "
            "files"
        )
    parts = [_read(file) for file in files]
    for file, part in zip(files, parts, strict=True):
        if part.shape[1:] != parts[0].shape[1:]:
            raise _differ(files[0], tuple(parts[0].shape[1:]), file, tuple(part.shape[1:]))
    return torch.cat(parts)


def _stacked(files: list[Path]) -> Tensor:
    """Pictures of one size; gray ones stay gray if all are."""
    try:
        modes = set[str]()
        for file in files:
            with Image.open(file) as picture:  # the header alone
                modes.add(picture.mode)
        mode = "L" if modes <= {"L", "1"} else "RGB"
        first: np.ndarray | None = None
        for row, file in enumerate(files):
            with Image.open(file) as picture:
                pixels = np.asarray(picture.convert(mode)).reshape(*picture.size[::-1], -1)
            if first is None:
                first = np.empty((len(files), *pixels.shape), np.uint8)
            if pixels.shape != first.shape[1:]:
                raise _differ(files[0], first.shape[1:], file, pixels.shape)
            first[row] = pixels
    except OSError as error:
        raise CtcontrolError(f"{error}; take the file away, or mend it") from error
    return torch.from_numpy(first).movedim(-1, 1)


def _differ(
    one: Path, size: tuple[int, ...], other: Path, another: tuple[int, ...]
) -> CtcontrolError:
    return CtcontrolError(
        f"images must be of one size, but {one} has {size} and {other} {another}; resize them"
    )


def _read(file: Path) -> Tensor:
    try:
        with np.load(file, allow_pickle=False) as content:
            if "images" in content.files:
                array = content["images"]
            else:
                sheets = sorted(name for name in content.files if name.startswith("sheet_"))
                array = np.concatenate([_tiles(content[name]) for name in sheets])
                array = array[: int(content["n"])]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CtcontrolError(
            f"{file} holds no images that can be read ({error}); it should hold `images`, uint8 of "
            "shape (n, height, width, channels)"
        ) from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
        raise CtcontrolError(
            f"`images` of {file} must be uint8 (n, height, width, 1 or 3), got {array.dtype} of "
            f"shape {array.shape}"
        )
    return torch.from_numpy(np.ascontiguousarray(array)).movedim(-1, 1)


def _tiles(data: np.ndarray) -> np.ndarray:
    sheet = np.asarray(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    rows, columns = sheet.shape[0] // TILE, sheet.shape[1] // TILE
    tiled = sheet.reshape(rows, TILE, columns, TILE, 3).transpose(0, 2, 1, 3, 4)
    return tiled.reshape(-1, TILE, TILE, 3)
