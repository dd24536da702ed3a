"""What small value networks are told besides the state."""

import torch
from torch import Tensor, nn

from ctcontrol import Context, Time
from ctcontrol_diffusion.schedule import Schedule

OCTAVES = 4


class LevelAndClass(nn.Module):
    """sin and cos of multiples of the noise level σ_t, and the class one-hot: (batch, count).

    Args:
        schedule: gives the noise level, the coordinate in which time is fed.
        classes: number of classes of the context; 1 for an unconditional model.
    """

    def __init__(self, schedule: Schedule, classes: int) -> None:
        super().__init__()
        self.schedule = schedule
        self.classes = classes
        self.count = 2 * OCTAVES + classes
        frequencies = torch.arange(1, OCTAVES + 1) * torch.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def forward(self, t: Time, context: Context, dtype: torch.dtype) -> Tensor:
        assert isinstance(context, Tensor)
        level = self.schedule.sigma(t)[:, None] * self.frequencies
        label = nn.functional.one_hot(context, self.classes).to(dtype)
        return torch.cat([level.sin(), level.cos(), label], 1)


def perceptron(inputs: int, width: int) -> nn.Sequential:
    """Two hidden layers; the linear head comes after."""
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())


def zero_head(width: int) -> nn.Linear:
    """One number, 0 at the start."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
