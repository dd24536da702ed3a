"""Networks of pixels to train from nothing, by size."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from diffusers import DDPMScheduler, UNet2DModel

from ctcontrol import CtcontrolError

Size = Literal["small", "ddpm-cifar10-32"]
Betas = Literal["linear", "cosine"]
Prediction = Literal["epsilon", "v_prediction"]

_PLAIN, _ATTENTION = "DownBlock2D", "AttnDownBlock2D"

SIZES: Mapping[str, dict[str, Any]] = {
    "small": {
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": None,  # one head: several take a fifth of the time on a CPU
        "down_block_types": (_PLAIN, _PLAIN, _ATTENTION),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    },
    # The config.json of google/ddpm-cifar10-32: Ho, Jain and Abbeel (2020), appendix B.
    "ddpm-cifar10-32": {
        "block_out_channels": (128, 256, 256, 256),
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "norm_eps": 1e-6,
        "attention_head_dim": None,
        "downsample_padding": 0,
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "down_block_types": (_PLAIN, _ATTENTION, _PLAIN, _PLAIN),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    },
}
"""name -> what `UNet2DModel` is told; the first for a CPU, of 1.1 million parameters."""


def new_network(
    size: Size, shape: tuple[int, int, int], *, dropout: float, seed: int
) -> UNet2DModel:
    """An initialized network of images (channels, height, width); other randomness is untouched.

    Raises:
        CtcontrolError: the images cannot be halved as often as the network does.
    """
    channels, height, width = shape
    halvings = len(SIZES[size]["block_out_channels"]) - 1
    if height % 2**halvings or width % 2**halvings:
        raise CtcontrolError(
            f"the images are {height} × {width}, but the network {size} needs sides that are "
            f"multiples of {2**halvings}; crop or resize them"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=height if height == width else (height, width),
            in_channels=channels,
            out_channels=channels,
            dropout=dropout,
            **SIZES[size],
        )


def new_scheduler(betas: Betas, prediction: Prediction) -> DDPMScheduler:
    r"""1000 steps; `linear` $\beta$ from 1e-4 to 0.02, or the `cosine` $\bar\alpha$.

    Without clipping: an image under a stochastic policy may leave [-1, 1] on its way. Sources: Ho,
    Jain and Abbeel (2020), section 4; Nichol and Dhariwal (2021), section 3.2.
    """
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear" if betas == "linear" else "squaredcos_cap_v2",
        prediction_type=prediction,
        clip_sample=False,
    )
