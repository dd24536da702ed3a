"""Value functions of diffusion models: the reward of the denoised image plus what is learned."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from ctcontrol import Context, MeanFunction, Scalar, State, Time, like
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.score import denoise


@dataclass(frozen=True, eq=False)
class DenoisedGuess:
    """r(x̂₀(t, x)): the terminal reward of the posterior mean; r(x) itself at the horizon.

    For a linear reward this is the value of the undisturbed model; in general it misses
    O(σ²) (docs/theory, value-network links).

    With the policy's mean action given, x̂₀ costs no network evaluation. Its derivative in x then
    uses the Jacobian that x̂₀ would have if the data were N(·, v I), α v/(α² v + σ²), in place of
    the derivative of the network.

    Attributes:
        score: evaluated only when the mean action is not given.
        schedule: α and σ.
        reward: of clean states, (x̂₀, context) -> (batch,).
        terminal: h, of states at the horizon, (x, context) -> (batch,).
        data_variance: v, mean variance of a coordinate of the data.
    """

    score: MeanFunction
    schedule: Schedule
    reward: Callable[[Tensor, Context], Tensor]
    terminal: Callable[[Tensor, Context], Tensor]
    data_variance: float

    def __call__(self, t: Time, x: State, context: Context, mean: Tensor | None = None) -> Scalar:
        if mean is None:
            clean = denoise(self.schedule, t, x, self.score(t, x, context))
        else:
            clean = denoise(self.schedule, t, x.detach(), mean)
            if x.requires_grad:
                alpha = self.schedule.alpha(t.detach())
                v = self.data_variance
                slope = alpha * v / (alpha**2 * v + self.schedule.variance(t.detach()))
                clean = clean.detach() + like(slope, x) * (x - x.detach())
        guess = self.reward(clean, context)
        at_end = t >= self.schedule.horizon - 1e-6
        return torch.where(at_end, self.terminal(x, context), guess) if at_end.any() else guess


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
