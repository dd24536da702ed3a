"""What is measured: which samplers, how many steps, whose prompts, which judges."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ctcontrol_diffusion.inspection._distance import RealImages
from ctcontrol_diffusion.rewards import CheckedReward

SDE, ODE = "SDE", "ODE"
"""Our own samplers: ancestral, DDIM(1), and the probability-flow ODE, DDIM(0)."""


@dataclass(frozen=True)
class Cell:
    """One way to sample.

    Attributes:
        sampler: SDE, ODE, or the name of a scheduler of diffusers.
        steps: of the sampler.
        prompts: name of the group of prompts; empty for the law that training draws from.
    """

    sampler: str
    steps: int
    prompts: str = ""

    @property
    def labels(self) -> dict[str, str | int]:
        """Those of its row."""
        labels: dict[str, str | int] = {"sampler": self.sampler, "steps": self.steps}
        return labels | {"prompts": self.prompts} if self.prompts else labels

    @property
    def name(self) -> str:
        """Its labels in one word, fit for a file."""
        return "-".join(map(str, self.labels.values()))


@dataclass(frozen=True, eq=False)
class Plan:
    """An evaluation.

    Attributes:
        steps: step counts.
        images: samples a cell.
        samplers: SDE, ODE and names of schedulers of diffusers.
        seed: of the noise, which is the same in every cell.
        groups: name -> texts, each group a cell of its own; none for the law of the problem.
        rewards: held-out rewards, name -> function of images, prompts and metadata.
        real: images to compare with, or None.
        shown: images kept of each cell, to be looked at.
    """

    steps: tuple[int, ...]
    images: int
    samplers: tuple[str, ...] = (SDE, ODE)
    seed: int = 20_000
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    rewards: Mapping[str, CheckedReward] = field(default_factory=dict[str, CheckedReward])
    real: RealImages | None = None
    shown: int = 0

    def cells(self) -> list[Cell]:
        """Every cell, in the order of the table."""
        groups = list(self.groups) or [""]
        return [Cell(s, n, g) for g in groups for s in self.samplers for n in self.steps]

    def texts(self, group: str) -> list[str] | None:
        """One prompt an image: all equally often, or as many as there are images, by the seed."""
        if not group:
            return None
        texts = self.groups[group]
        if len(texts) <= self.images:
            return [texts[i % len(texts)] for i in range(self.images)]
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randperm(len(texts), generator=generator)[: self.images]
        return [texts[i] for i in sorted(chosen.tolist())]
