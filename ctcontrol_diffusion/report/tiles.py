"""Grids of images, one prompt a row."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

INK, PAPER, FAINT = (28, 30, 36), (255, 255, 255), (120, 124, 132)
SIZE = 48
"""Pixels that a small image is enlarged to, at least."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Images in rows.

    Attributes:
        prompts: one a row.
        pixels: (rows, columns, height, width, 1 or 3), bytes.
    """

    prompts: list[str]
    pixels: NDArray[np.uint8]

    @classmethod
    def from_sheet(cls, path: Path, prompts: list[str], shape: tuple[int, ...]) -> "Tiles":
        """Read what `sheet` made; raises `OSError` or `ValueError` if it is no such file."""
        rows, columns, height, width, channels = shape
        with Image.open(path) as image:
            flat = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        blocks = flat.reshape(rows, height, columns, width, channels)
        return cls(prompts, blocks.swapaxes(1, 2))

    def row(self, index: int) -> "Tiles":
        """One prompt alone."""
        return Tiles(self.prompts[index : index + 1], self.pixels[index : index + 1])


def tiles_of(images: Tensor, prompts: list[str]) -> Tiles:
    """From images (rows · columns, channels, height, width) in [0, 1], row after row."""
    pixels = (images.detach().cpu() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return Tiles(prompts, pixels.reshape(len(prompts), -1, *pixels.shape[1:]))


def sheet(tiles: Tiles) -> bytes:
    """A PNG of the bare images side by side, pixel for pixel."""
    rows, columns, height, width, channels = tiles.pixels.shape
    flat = tiles.pixels.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    return png(Image.fromarray(flat[..., 0] if channels == 1 else flat))


def strip(tiles: Tiles, gap: int = 3) -> bytes:
    """A PNG of the images enlarged to whole pixels, with transparent gaps."""
    return png(_board(tiles, gap))


def comparison(before: Tiles, after: Tiles, titles: tuple[str, str]) -> bytes:
    """A PNG for people: prompt, images before, images after, on white."""
    boards = [_board(tiles, 4) for tiles in (before, after)]
    text, small = _font(17), _font(15)
    left = 16 + int(max(text.getlength(prompt) for prompt in before.prompts))
    gutter, top, margin = 28, 34, 14
    width = margin + left + boards[0].width + gutter + boards[1].width + margin
    page = Image.new("RGB", (width, top + boards[0].height + margin), PAPER)
    pen = ImageDraw.Draw(page)
    pitch = boards[0].height / len(before.prompts)
    for row, prompt in enumerate(before.prompts):
        pen.text((margin, top + (row + 0.5) * pitch), prompt, INK, text, anchor="lm")
    offset = margin + left
    for board, title in zip(boards, titles, strict=True):
        pen.text((offset + 2, 10), title, FAINT, small)
        page.paste(board, (offset, top), board)
        offset += board.width + gutter
    return png(page)


def gallery(images: dict[str, NDArray[np.uint8]], columns: int) -> bytes:
    """A PNG for people: for each prompt its images (n, height, width, 1 or 3), `columns` a row."""
    margin, gap, text = 14, 4, _font(17)
    left = margin + 16 + int(max(text.getlength(prompt) for prompt in images))
    boards = [
        _board(Tiles([], _wrapped(some, columns)), gap, len(some)) for some in images.values()
    ]
    height = sum(board.height + 3 * gap for board in boards)
    page = Image.new("RGB", (left + boards[0].width + margin, margin + height), PAPER)
    pen = ImageDraw.Draw(page)
    top = margin
    for prompt, board in zip(images, boards, strict=True):
        pitch = board.height / -(-len(images[prompt]) // columns)
        pen.text((margin, top + pitch / 2), prompt, INK, text, anchor="lm")
        page.paste(board, (left, top), board)
        top += board.height + 3 * gap
    return png(page)


def _wrapped(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """(n, …) to (rows, columns, …), the last row filled with black."""
    rows = -(-len(images) // columns)
    missing = np.zeros((rows * columns - len(images), *images.shape[1:]), np.uint8)
    return np.concatenate([images, missing]).reshape(rows, columns, *images.shape[1:])


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _board(tiles: Tiles, gap: int, count: int | None = None) -> Image.Image:
    """The first `count` images, all by default, enlarged and spaced on a transparent ground."""
    rows, columns, height, width, channels = tiles.pixels.shape
    factor = max(1, -(-SIZE // max(height, width)))
    big = tiles.pixels.repeat(factor, 2).repeat(factor, 3)
    if channels == 1:
        big = big.repeat(3, -1)
    high, wide = factor * height, factor * width
    board = np.zeros((rows, columns, high + gap, wide + gap, 4), np.uint8)
    board[:, :, :high, :wide, :3] = big
    board[:, :, :high, :wide, 3] = 255
    board.reshape(rows * columns, *board.shape[2:])[
        rows * columns if count is None else count :
    ] = 0
    flat = board.swapaxes(1, 2).reshape(rows * (high + gap), columns * (wide + gap), 4)
    return Image.fromarray(flat)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
