"""Whether the images have changed in a way that no reward should ask for."""

from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import stdtrit
from torch import Tensor

from ctcontrol import Estimate
from ctcontrol_diffusion.inspection._statistics import STATISTICS

CHANCE = 1.35e-3
"""One tail of a normal law beyond 3 σ."""
LARGE = 0.75
"""Spreads over the base model's images that it must exceed as well."""


@dataclass(frozen=True)
class Drift:
    """How far the mean of a statistic has moved from that of the pretrained model.

    Attributes:
        name: of the statistic.
        base: its mean under the pretrained model.
        shift: mean of now − base, over images of the same noise and prompt. Its standard error is
            of these differences, and so holds that of both means and what they have in common.
        spread: standard deviation over the base model's images, or a least one that can be seen.
    """

    name: str
    base: float
    shift: Estimate
    spread: float

    @property
    def size(self) -> float:
        """The shift in spreads: 1 moves the mean to where every sixth image was."""
        return self.shift.mean / self.spread

    @property
    def alarming(self) -> bool:
        """More than 3 σ (of few images, as Student's law has it), and more than ¾ of a spread.

        The first alone would warn of any change at all once there are enough images; the second
        alone of chance, where they are few.
        """
        sigmas = float(-stdtrit(self.shift.n - 1, CHANCE))
        sure = abs(self.shift.mean) > sigmas * self.shift.stderr
        return sure and abs(self.size) > LARGE

    def __str__(self) -> str:
        sigma = abs(self.shift.mean) / self.shift.stderr if self.shift.stderr else float("inf")
        return (
            f"{self.name} {'rose' if self.shift.mean > 0 else 'fell'} from {self.base:.3g} to "
            f"{self.base + self.shift.mean:.3g} ({sigma:.0f} σ, {abs(self.size):.1f} times the "
            "spread of the pretrained model's images)"
        )


def drifts(base: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[Drift]:
    """One entry for every image statistic in both; row i of each is of the same noise."""
    return [
        Drift(
            name,
            float(base[name].mean()),
            Estimate.of(now[name].double() - base[name].double()),
            max(float(base[name].std()), least),
        )
        for name, (_, least) in STATISTICS.items()
        if name in base and name in now
    ]
