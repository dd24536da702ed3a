"""What image encoders see: the shorter side resized, the centre, normalised."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctcontrol_diffusion.rewards._contract import Images

# CLIP's, which BLIP and open_clip share (openai/CLIP, clip.py).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def crop_and_normalise(images: Images, size: int) -> Float[Tensor, "n 3 size size"]:
    """(centre of the images resized to `size` at the shorter side − mean) / std, in float32.

    Bicubic with antialiasing, as in Pillow, and cut to [0, 1] as Pillow's bytes are; but values are
    not rounded to bytes, so that gradients pass. Gray images become three equal channels.
    """
    images = images.float()
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    height, width = images.shape[-2:]
    if min(height, width) != size:
        scaled = (max(size, size * height // width), max(size, size * width // height))
        images = nn.functional.interpolate(
            images, scaled, mode="bicubic", align_corners=False, antialias=True
        ).clamp(0, 1)
    height, width = images.shape[-2:]
    top, left = (height - size) // 2, (width - size) // 2
    images = images[..., top : top + size, left : left + size]
    mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (MEAN, STD))
    return (images - mean) / std
