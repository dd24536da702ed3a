"""Statistics of images that betray a reward which is exploited instead of followed."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol_diffusion.rewards import luminance

DARK = 0.1
LEVELS = 4
"""Levels a channel of RGB is cut into; gray is cut into their square."""
END = 0.02


def image_statistics(images: Float[Tensor, "n c h w"]) -> dict[str, Float[Tensor, "n"]]:
    """Name -> one number an image, for images in [0, 1].

    * `dark pixels`: share of pixels whose luminance is below 0.1.
    * `edge density`: mean length of the gradient of luminance between neighbours, per pixel.
    * `color entropy`: −Σ p log₂ p in bits of the colors, cut into 4³ cells (gray: into 16 levels).
    * `saturated values`: share of pixel values within 0.02 of black or white. (Not those that are
      0 or 255: a background that is nearly black crosses that line by the least of changes.)
    """
    return {name: statistic(images) for name, (statistic, _) in STATISTICS.items()}


def _dark(images: Tensor) -> Tensor:
    return (luminance(images) < DARK).float().mean((1, 2))


def _edges(images: Tensor) -> Tensor:
    gray = luminance(images)
    down = gray[:, 1:, :-1] - gray[:, :-1, :-1]
    right = gray[:, :-1, 1:] - gray[:, :-1, :-1]
    return (down**2 + right**2).sqrt().mean((1, 2))


def _entropy(images: Tensor) -> Tensor:
    channels = images.shape[1]
    levels = LEVELS if channels == 3 else LEVELS**2
    cut = (images * levels).long().clamp(0, levels - 1).flatten(2)
    place = levels ** torch.arange(channels, device=images.device)
    color = (cut * place[:, None]).sum(1)
    share = images.new_zeros(len(images), levels**channels)
    share.scatter_add_(1, color, torch.ones_like(color, dtype=images.dtype))
    share /= color.shape[1]
    return -torch.special.xlogy(share, share).sum(1) / torch.log(torch.tensor(2.0))


def _saturated(images: Tensor) -> Tensor:
    ends = (images < END) | (images > 1 - END)
    return ends.float().mean((1, 2, 3))


STATISTICS: Mapping[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "dark pixels": (_dark, 0.02),
    "edge density": (_edges, 0.005),
    "color entropy": (_entropy, 0.1),
    "saturated values": (_saturated, 0.02),
}
"""name -> (statistic, the least spread over images that changes are compared with, in its unit)."""
