"""One line of an evaluation table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ctcontrol_diffusion.prompts import PromptStatistics

Number = float | None
Pair = tuple[float, Number]
"""(value, standard error or None where there is none)."""
Progress = Callable[[int, int], None]
"""Called with (done, all)."""


@dataclass(frozen=True)
class Row:
    """One line of an evaluation table, with what is behind it.

    Attributes:
        labels: what was evaluated, e.g. {"sampler": "SDE", "steps": 25}.
        numbers: name -> (value, standard error or None).
        statistics: of the images, name -> (mean, standard error); none where there are no images.
        kl_steps: KL to the pretrained model of each step, nats, (mean, standard error), from noise
            to sample; their sum is the number `kl`. Empty where it is not measured.
        prompts: how each prompt fares, the worst first; empty without prompts.
    """

    labels: Mapping[str, str | int]
    numbers: Mapping[str, Pair]
    statistics: Mapping[str, Pair] = field(default_factory=dict[str, Pair])
    kl_steps: tuple[Pair, ...] = ()
    prompts: tuple[PromptStatistics, ...] = ()
