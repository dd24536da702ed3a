"""A small convolutional network on states shaped like images."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ctcontrol import Context, Scalar, State, Time
from ctcontrol_diffusion.schedule import Schedule


class ImageResidual(nn.Module):
    """F(t, x, class): a small convolutional network on images, 0 at the start.

    Three stages of halved resolution, into which noise level and class enter as biases; the mean
    over pixels goes into a linear head. Every image is treated on its own.

    Args:
        schedule: gives the noise level, the coordinate in which time is fed.
        channels: of the images.
        classes: number of classes of the context; 1 for an unconditional model.
        width: channels of the last stage; the first two have a quarter and half of them.
    """

    def __init__(self, schedule: Schedule, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.classes = classes
        frequencies = torch.arange(1, 5) * torch.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        sizes = [channels, max(width // 4, 1), max(width // 2, 1), width]
        self.stages = nn.ModuleList(
            nn.Conv2d(inside, outside, 3, stride=2, padding=1)
            for inside, outside in pairwise(sizes)
        )
        self.biases = nn.ModuleList(
            nn.Linear(2 * len(frequencies) + classes, outside) for outside in sizes[1:]
        )
        self.norms = nn.ModuleList(nn.GroupNorm(1, outside) for outside in sizes[1:])
        self.head = nn.Linear(width, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        level = self.schedule.sigma(t)[:, None] * self.frequencies
        label = nn.functional.one_hot(context, self.classes).to(x.dtype)
        given = torch.cat([level.sin(), level.cos(), label], 1)
        for stage, bias, norm in zip(self.stages, self.biases, self.norms, strict=True):
            x = nn.functional.silu(norm(stage(x)) + bias(given)[:, :, None, None])
        return self.head(x.mean((2, 3))).squeeze(1)
