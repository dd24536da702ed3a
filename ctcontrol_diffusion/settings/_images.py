"""How states become images."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ctcontrol import Context, GaussianPolicy, fill
from ctcontrol_diffusion.schedule import Schedule
from ctcontrol_diffusion.score import denoise


def to_image(x: Tensor) -> Tensor:
    """Clean pixels in [−1, 1] to images in [0, 1]; keeps gradients inside the range."""
    return (0.5 * (x + 1)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class LastStep:
    """The noise-free last step x̂₀ of the *pretrained* model, fixed like a decoder.

    Attributes:
        reference: the pretrained model's score.
        schedule: where sampling stops.
        image: clean states to images in [0, 1].
    """

    reference: GaussianPolicy
    schedule: Schedule
    image: Callable[[Tensor], Tensor] = to_image

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        """States at the horizon to images in [0, 1]."""
        t = fill(self.schedule.horizon, x)
        return self.image(denoise(self.schedule, t, x, self.reference.mean(t, x, context)))
