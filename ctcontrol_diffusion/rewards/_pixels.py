"""Rewards computed from the pixels: brightness and left-right symmetry."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, the Y of JPEG and of gray conversion in Pillow


def luminance(images: Images) -> Float[Tensor, "n h w"]:
    """Y = 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601) of RGB, and of gray the value itself."""
    if images.shape[1] == 1:
        return images[:, 0]
    red, green, blue = images.unbind(1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


@dataclass(frozen=True)
class Brightness:
    """Mean luminance, (1 / hw) Σ Y: 0 is black, 1 is white. Differentiable."""

    differentiable: ClassVar[bool] = True

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        return luminance(images).mean((1, 2)), {}


@dataclass(frozen=True)
class Symmetry:
    """Minus the mean absolute difference to the mirror image, −(1 / chw) Σ |xᵢⱼ − xᵢ,w₋₁₋ⱼ|.

    In units of the pixel value: 0 for an image equal to its left-right mirror image, −1 for one
    that is black on the left and white on the right, so always in [−1, 0]. Differentiable, with
    derivative 0 where two mirrored pixels are equal.
    """

    differentiable: ClassVar[bool] = True

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        return -(images - images.flip(-1)).abs().mean((1, 2, 3)), {}
