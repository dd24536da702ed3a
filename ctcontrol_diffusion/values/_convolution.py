"""A small convolutional network on states shaped like images."""

from itertools import pairwise

from torch import nn

from ctcontrol import Context, Scalar, State, Time
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.values._conditions import LevelAndClass, zero_head


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
        self.told = LevelAndClass(schedule, classes)
        sizes = [channels, max(width // 4, 1), max(width // 2, 1), width]
        self.stages = nn.ModuleList(
            nn.Conv2d(inside, outside, 3, stride=2, padding=1)
            for inside, outside in pairwise(sizes)
        )
        self.biases = nn.ModuleList(nn.Linear(self.told.count, outside) for outside in sizes[1:])
        self.norms = nn.ModuleList(nn.GroupNorm(1, outside) for outside in sizes[1:])
        self.head = zero_head(width)

    def forward(self, t: Time, x: State, context: Context) -> Scalar:
        given = self.told(t, context, x.dtype)
        for stage, bias, norm in zip(self.stages, self.biases, self.norms, strict=True):
            x = nn.functional.silu(norm(stage(x)) + bias(given)[:, :, None, None])
        return self.head(x.mean((2, 3))).squeeze(1)
