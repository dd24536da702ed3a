"""The class-conditional denoising network of the digits, a small diffusers UNet."""

from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel

from ctcontrol import CtcontrolError

from ._weights import fill, read_shipped, read_weights, save_weights
from .data import CLASSES, IMAGE_SHAPE

KIND = "digits-denoiser"
ASSET = "denoiser.safetensors"

# No attention and no third resolution: at 8x8 each costs a third of the speed and buys nothing
# visible.
_ARCHITECTURE: dict[str, Any] = {
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "resnet_time_scale_shift": "scale_shift",
}


def noise_scheduler() -> DDPMScheduler:
    r"""The noise schedule of the pretraining: 1000 steps, $\beta$ linear from 1e-4 to 0.02.

    $x_k = \sqrt{\bar\alpha_k}\,x_0 + \sqrt{1 - \bar\alpha_k}\,\epsilon$ with
    $\bar\alpha_k = \prod_{j \le k} (1 - \beta_j)$, the network predicting $\epsilon$.
    ``clip_sample`` is off: an image under a stochastic policy may leave [-1, 1] on its way.
    Source: Ho, Jain and Abbeel (2020), Denoising Diffusion Probabilistic Models, sections 2 and 4.
    """
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="epsilon",
        clip_sample=False,
    )


def new_denoiser(architecture: dict[str, Any] | None = None) -> UNet2DModel:
    """A freshly initialized denoiser (global torch generator, as modules initialize themselves).

    Called as ``model(x, timestep, class_labels=digit).sample`` with ``x`` $(n, 1, 8, 8)$, integer
    ``timestep`` 0..999 $(n,)$ or scalar, ``digit`` $(n,)$ int64; returns $\\epsilon$ like ``x``.

    Args:
        architecture: ``block_out_channels``, ``layers_per_block``, ``norm_num_groups`` and
            ``resnet_time_scale_shift`` of ``UNet2DModel``; by default those of the shipped weights.
    """
    architecture = _ARCHITECTURE | (architecture or {})
    levels = len(architecture["block_out_channels"])
    return UNet2DModel(
        sample_size=IMAGE_SHAPE[-1],
        in_channels=IMAGE_SHAPE[0],
        out_channels=IMAGE_SHAPE[0],
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        add_attention=False,
        num_class_embeds=CLASSES,
        **architecture,
    )


def load_denoiser(
    path: str | Path | None = None, device: str | torch.device = "cpu"
) -> UNet2DModel:
    """The pretrained denoiser, float32, in eval mode, parameters trainable.

    Args:
        path: a file of :func:`save_denoiser`; by default the weights shipped with the package.
        device: where the network goes.

    Raises:
        CtcontrolError: when the file is missing, corrupt, or not a digits denoiser.
    """
    if path is None:
        architecture, tensors = read_shipped(ASSET, kind=KIND)
    else:
        architecture, tensors = read_weights(path, kind=KIND)
    try:
        model = new_denoiser({name: architecture[name] for name in _ARCHITECTURE})
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CtcontrolError(f"{path} describes no UNet that can be built: {error}") from error
    fill(model, tensors, path or ASSET)
    model.to(device)  # pyright: ignore[reportArgumentType]  # diffusers loses the signature
    return model.eval()


def save_denoiser(model: UNet2DModel, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes ``model`` with its architecture as safetensors of ``dtype``, atomically.

    Raises:
        CtcontrolError: when the file cannot be written.
    """
    architecture = {name: model.config[name] for name in _ARCHITECTURE}
    save_weights(model, path, kind=KIND, architecture=architecture, dtype=dtype)
