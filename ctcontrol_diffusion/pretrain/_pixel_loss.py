"""The denoising loss of a network of pixels, over images that stay bytes until they are used."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor
from torch.nn import functional

from ._objectives import Loss


def pixel_loss(
    network: Callable[..., Any],
    scheduler: DDPMScheduler,
    images: Tensor,
    *,
    batch_size: int,
    flips: bool,
    bfloat16: bool,
    generator: torch.Generator,
) -> Loss:
    r"""$E\,|f_\theta(x_k, k) - y|^2$ per pixel, $y$ being $\epsilon$ or $v$ as the scheduler says.

    $x_k = \sqrt{\bar\alpha_k}\,x_0 + \sqrt{1 - \bar\alpha_k}\,\epsilon$ and
    $v = \sqrt{\bar\alpha_k}\,\epsilon - \sqrt{1 - \bar\alpha_k}\,x_0$. The steps $k$ are
    stratified over the batch: each is uniform, the loss varies less.

    Args:
        network: (x, k) -> an object with `sample`.
        scheduler: the forward process.
        images: (n, channels, height, width), uint8, on the device of `generator`.
        batch_size: images of a loss, drawn with replacement.
        flips: mirror each image with probability one half.
        bfloat16: run the network under autocast.
        generator: of all randomness.
    """
    steps, device = scheduler.config["num_train_timesteps"], generator.device
    velocity = scheduler.config["prediction_type"] == "v_prediction"
    precision = torch.autocast(device.type, torch.bfloat16) if bfloat16 else nullcontext()

    def uniform() -> Tensor:
        return torch.rand(batch_size, generator=generator, device=device)

    def loss() -> Tensor:
        rows = torch.randint(len(images), (batch_size,), generator=generator, device=device)
        clean = images[rows].float() / 127.5 - 1
        if flips:
            clean = torch.where(uniform()[:, None, None, None] < 0.5, clean.flip(-1), clean)
        strata = torch.arange(batch_size, device=device) + uniform()
        k = (strata * (steps / batch_size)).long().clamp(max=steps - 1)
        noise = torch.randn(clean.shape, generator=generator, device=device)
        noised = scheduler.add_noise(clean, noise, k)
        target = scheduler.get_velocity(clean, noise, k) if velocity else noise
        with precision:
            predicted = network(noised, k).sample
        return functional.mse_loss(predicted.float(), target)

    return loss
