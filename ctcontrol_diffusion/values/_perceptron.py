"""A perceptron on all numbers of a small state."""

import torch
from torch import Tensor, nn

from ctcontrol import Context, Scalar, State, Time
from ctcontrol_diffusion.schedule import Schedule


class PixelResidual(nn.Module):
    """F(t, x, class): a perceptron on the pixels of small images, 0 at the start.

    Args:
        schedule: gives the noise level, the coordinate in which time is fed.
        pixels: numbers an image has.
        classes: number of classes of the context.
        width: of both hidden layers.
    """

    def __init__(self, schedule: Schedule, pixels: int, classes: int, width: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.classes = classes
        frequencies = torch.arange(1, 5) * torch.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self.body = nn.Sequential(
            nn.Linear(pixels + 2 * len(frequencies) + classes, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
        )
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        level = self.schedule.sigma(t)[:, None] * self.frequencies
        label = nn.functional.one_hot(context, self.classes).to(x.dtype)
        features = torch.cat([x.flatten(1), level.sin(), level.cos(), label], 1)
        return self.head(self.body(features)).squeeze(1)
