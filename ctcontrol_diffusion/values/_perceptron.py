"""A perceptron on all numbers of a small state."""

import torch
from torch import nn

from ctcontrol import Context, Scalar, State, Time
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.values._conditions import LevelAndClass, perceptron, zero_head


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
        self.told = LevelAndClass(schedule, classes)
        self.body = perceptron(pixels + self.told.count, width)
        self.head = zero_head(width)

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        features = torch.cat([x.flatten(1), self.told(t, context, x.dtype)], 1)
        return self.head(self.body(features)).squeeze(1)
