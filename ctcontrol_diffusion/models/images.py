"""Images from .npz files, without pickle."""

import io
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ctcontrol import CtcontrolError

TILE = 32


def read_images(path: Path) -> Tensor:
    """(n, channels, height, width), uint8, of an .npz, or of all `*.npz` of a folder by name.

    A file holds either `images`, uint8 (n, height, width, channels), or lossless pictures
    `sheet_000`, … as the bytes of their files, each of 32 × 32 tiles read row by row, of which
    the first n are counted by `n`.

    Raises:
        CtcontrolError: nothing is there, or a file holds neither.
    """
    files = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise CtcontrolError(f"there are no images at {path}; give an .npz or a folder of them")
    return torch.cat([_read(file) for file in files])


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
