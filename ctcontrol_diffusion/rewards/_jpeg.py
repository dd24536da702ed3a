"""Rewards by the size of the JPEG file an image makes."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ctcontrol import check_positive
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards

QUALITY = 95


def jpeg_kilobytes(images: Images) -> Float[Tensor, "n"]:
    """Size of each image as a JPEG file, in kB = 1000 bytes, on the images' device.

    Values × 255 are rounded to bytes (and clamped to 0 … 255) and encoded by Pillow at quality
    95, else with its defaults (4:2:0 chroma subsampling, standard Huffman tables), as in Black et
    al. 2023, "Training Diffusion Models with Reinforcement Learning". Gray images are encoded in
    mode L, whose files lack the chroma tables: a constant 8 × 8 image takes 0.33 kB instead of
    0.63. Deterministic for a given build of libjpeg; not differentiable.

    One image after another: Pillow holds the interpreter's lock while it encodes into memory, so
    that threads only slow it down.
    """
    pixels = images.detach().mul(255).round_().clamp_(0, 255).to(torch.uint8)
    arrays = pixels.movedim(1, -1).contiguous().cpu().numpy()
    if arrays.shape[-1] == 1:
        arrays = arrays[..., 0]
    sizes = [_bytes(array) for array in arrays]
    return torch.tensor(sizes, dtype=torch.float32, device=images.device) / 1000


def _bytes(array: np.ndarray) -> int:
    file = io.BytesIO()
    Image.fromarray(array).save(file, format="JPEG", quality=QUALITY)
    return file.tell()


@dataclass(frozen=True)
class JPEGIncompressibility:
    """kB / scale of the JPEG file (:func:`jpeg_kilobytes`): detail and noise are rewarded.

    Not differentiable. `info` holds `kilobytes`, without the scale.

    Attributes:
        scale: kB that make one unit of reward. Two are in use in the literature: 1 (Black et al.
            2023) and 500. In small images nearly all of the file is header, and sizes differ by
            some bytes only: from 0.37 to 0.41 kB, with a standard deviation of 0.004, for
            handwritten digits of 8 × 8.

    Raises:
        CtcontrolError: unless 0 < scale < ∞.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive("scale of the JPEG reward", self.scale)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        kilobytes = jpeg_kilobytes(images)
        return kilobytes / self.scale, {"kilobytes": kilobytes}


@dataclass(frozen=True)
class JPEGCompressibility:
    """−kB / scale of the JPEG file: smooth images are rewarded; see `JPEGIncompressibility`.

    Raises:
        CtcontrolError: unless 0 < scale < ∞.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        check_positive("scale of the JPEG reward", self.scale)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        kilobytes = jpeg_kilobytes(images)
        return -kilobytes / self.scale, {"kilobytes": kilobytes}
