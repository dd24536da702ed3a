"""JPEG sizes: known files, units, gray images, rounding."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import (
    JPEGCompressibility,
    JPEGIncompressibility,
    jpeg_kilobytes,
)


@pytest.mark.parametrize(
    ("side", "black", "uniform_noise"), [(32, 0.641, 1.84), (64, 0.69, 5.4), (256, 1.65, 77.5)]
)
def test_sizes_of_known_images(
    side: int, black: float, uniform_noise: float, generator: torch.Generator
) -> None:
    images = torch.rand(2, 3, side, side, generator=generator)
    images[0] = 0
    assert jpeg_kilobytes(images).tolist() == pytest.approx([black, uniform_noise], rel=0.05)


def test_a_file_is_what_pillow_writes_at_quality_95() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, format="JPEG", quality=95)
    images = torch.as_tensor(levels).permute(2, 0, 1)[None] / 255
    assert jpeg_kilobytes(images).item() == pytest.approx(len(file.getvalue()) / 1000)


def test_gray_images_are_encoded_in_mode_l() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, format="JPEG", quality=95)
    assert Image.open(file).mode == "L"
    gray = torch.as_tensor(levels)[None, None] / 255
    assert jpeg_kilobytes(gray).item() == pytest.approx(len(file.getvalue()) / 1000)
    assert jpeg_kilobytes(gray) < jpeg_kilobytes(gray.expand(1, 3, 8, 8))


def test_values_are_rounded_and_clamped(generator: torch.Generator) -> None:
    levels = torch.randint(0, 256, (4, 3, 16, 16), generator=generator).double()
    blur = torch.rand(levels.shape, generator=generator) - 0.5
    sizes = jpeg_kilobytes(levels / 255)
    assert torch.equal(jpeg_kilobytes((levels + 0.98 * blur) / 255), sizes)
    wide = (levels - 128) / 64
    assert torch.equal(jpeg_kilobytes(wide), jpeg_kilobytes(wide.clamp(0, 1)))


def test_detail_takes_bytes(generator: torch.Generator) -> None:
    x = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    order = [torch.zeros_like(x), x, torch.rand(x.shape, generator=generator)]
    black, gradient, detail = jpeg_kilobytes(torch.cat(order)).tolist()
    assert black < gradient < detail


@pytest.mark.parametrize("scale", [1.0, 500.0])
def test_one_reward_is_minus_the_other_in_units_of_scale(
    scale: float, generator: torch.Generator
) -> None:
    images = torch.rand(4, 3, 16, 16, generator=generator)
    more, info = JPEGIncompressibility(scale)(images, [""] * 4, {})
    less, same = JPEGCompressibility(scale)(images, [""] * 4, {})
    assert torch.equal(more, -less)
    assert torch.equal(info["kilobytes"], same["kilobytes"])
    assert torch.allclose(more * scale, jpeg_kilobytes(images))


@pytest.mark.parametrize("kind", [JPEGCompressibility, JPEGIncompressibility])
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bad_scale_is_refused(kind: type, scale: float) -> None:
    with pytest.raises(CtcontrolError, match=rf"scale of the JPEG reward must be .* got {scale}"):
        kind(scale)
