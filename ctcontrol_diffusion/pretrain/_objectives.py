"""Minibatch losses of the digits: noise prediction, and classification of shaken images."""

import math
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler, UNet2DModel
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ctcontrol_diffusion.models.digits import DigitsData, noisy_captions

Images = Float[Tensor, "n 1 8 8"]
Loss = Callable[[], Tensor]

MAX_ROTATION = math.radians(12.0)
MAX_SHIFT = 1.0  # pixels
MAX_SCALING = 0.1
MAX_PIXEL_NOISE = 0.25


def denoising_loss(
    model: UNet2DModel,
    scheduler: DDPMScheduler,
    data: DigitsData,
    *,
    batch_size: int,
    wrong_probability: float,
    generator: torch.Generator,
) -> Loss:
    r"""$E\,|\epsilon_\theta(x_k, k, c) - \epsilon|^2$ per pixel, with captions $c$ drawn afresh.

    A new caption is drawn at every visit of an image, so the network learns the law
    $p(x \mid c) = (1 - p)\,p_{\text{data}}(x \mid y = c) + \frac p9 \sum_{y \ne c}
    p_{\text{data}}(x \mid y)$ (the digits being about equally frequent) and cannot learn by heart
    which image had a wrong one. The steps $k$ are stratified over the batch: each is uniform, the
    loss varies less.
    """
    steps = scheduler.config["num_train_timesteps"]

    def loss() -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        captions = noisy_captions(
            data.labels[rows], wrong_probability=wrong_probability, generator=generator
        )
        strata = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
        k = (strata * (steps / batch_size)).long().clamp(max=steps - 1)
        images = data.images[rows]
        noise = torch.randn(images.shape, generator=generator)
        noised = scheduler.add_noise(images, noise, k)
        predicted = model(noised, k, class_labels=captions).sample
        return functional.mse_loss(predicted, noise)

    return loss


def classification_loss(
    classifier: nn.Module,
    data: DigitsData,
    *,
    batch_size: int,
    label_smoothing: float,
    generator: torch.Generator,
) -> Loss:
    r"""Cross-entropy against smoothed labels, on images moved and noised by :func:`shaken`.

    Smoothing by $\varepsilon$ has its optimum at $p(y) = 1 - 0.9\,\varepsilon$ and
    $p(k) = \varepsilon / 10$ for the others, so the log-probability, which serves as a reward,
    stays finite: about $\log(\varepsilon/10)$ for a plainly wrong digit instead of growing without
    bound, and its gradient does not die on confident images.
    """

    def loss() -> Tensor:
        rows = torch.randint(len(data), (batch_size,), generator=generator)
        logits = classifier(shaken(data.images[rows], generator))
        return functional.cross_entropy(logits, data.labels[rows], label_smoothing=label_smoothing)

    return loss


def shaken(images: Images, generator: torch.Generator) -> Images:
    """Images rotated (12 degrees at most), scaled (10 %), shifted (1 pixel), and noised.

    The noise level is uniform in [0, 0.25] per image (pixels span [-1, 1]), so that a classifier
    also knows images that are not quite clean. Paper, -1, fills what moves in from outside.
    """
    n, pixels = len(images), images.shape[-1]

    def uniform(high: float) -> Tensor:
        return (2 * torch.rand(n, generator=generator) - 1) * high

    angle, scale = uniform(MAX_ROTATION), 1 + uniform(MAX_SCALING)
    # affine_grid speaks of [-1, 1] across the image: one pixel is 2 / pixels.
    across, down = uniform(2 * MAX_SHIFT / pixels), uniform(2 * MAX_SHIFT / pixels)
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    first = torch.stack((cosine, -sine, across), dim=1)
    second = torch.stack((sine, cosine, down), dim=1)
    grid = functional.affine_grid(
        torch.stack((first, second), dim=1), list(images.shape), align_corners=False
    )
    moved = functional.grid_sample(images + 1, grid, align_corners=False) - 1
    level = torch.rand((n, 1, 1, 1), generator=generator) * MAX_PIXEL_NOISE
    return moved + level * torch.randn(images.shape, generator=generator)


def classifier_quality(classifier: nn.Module, data: DigitsData) -> dict[str, float]:
    """Accuracy, mean negative log-likelihood (nats) and mean confidence on images as they are."""
    with torch.inference_mode():
        log_probability = classifier(data.images).log_softmax(dim=1)
    confidence, predicted = log_probability.exp().max(dim=1)
    return {
        "accuracy": (predicted == data.labels).double().mean().item(),
        "negative_log_likelihood": functional.nll_loss(log_probability, data.labels).item(),
        "confidence": confidence.mean().item(),
    }
