"""Images of one cell with everything that was measured of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol import Estimate
from ctcontrol_diffusion.inspection._diversity import diversity
from ctcontrol_diffusion.inspection._plan import Cell, Plan
from ctcontrol_diffusion.inspection._row import Pair, Row
from ctcontrol_diffusion.inspection._statistics import STATISTICS
from ctcontrol_diffusion.prompts import prompt_statistics


@dataclass(frozen=True, eq=False)
class Samples:
    """One batch of a cell, or all of it.

    Attributes:
        values: name -> (n,), one number an image: rewards, kl, image statistics.
        features: (n, k), for diversity and the Fréchet distance.
        kl_steps: (steps, n) KL of each step in nats, or None where there is no KL.
        texts: n prompts.
        shown: the first images.
    """

    values: Mapping[str, Tensor]
    features: Tensor
    kl_steps: Tensor | None
    texts: list[str]
    shown: Tensor

    @classmethod
    def joined(cls, parts: list["Samples"]) -> "Samples":
        """Several batches as one."""
        kl = [part.kl_steps for part in parts if part.kl_steps is not None]
        return cls(
            {key: torch.cat([part.values[key] for part in parts]) for key in parts[0].values},
            torch.cat([part.features for part in parts]),
            torch.cat(kl, 1) if kl else None,
            [text for part in parts for text in part.texts],
            torch.cat([part.shown for part in parts]),
        )

    def row(self, cell: Cell, plan: Plan) -> Row:
        """The line of the table."""
        numbers = {k: pair(v) for k, v in self.values.items() if k not in STATISTICS}
        if plan.real is not None:
            numbers[plan.real.number(len(self.texts))] = plan.real.distance(self.features)
        spread, error = diversity(self.features, self.texts)
        if spread == spread:
            numbers["diversity"] = (spread, error)
        prompted = bool(cell.prompts) or len(set(self.texts)) > 1
        return Row(
            cell.labels,
            numbers,
            {k: pair(v) for k, v in self.values.items() if k in STATISTICS},
            () if self.kl_steps is None else tuple(map(pair, self.kl_steps)),
            tuple(prompt_statistics(self.texts, self.values["reward"])) if prompted else (),
        )


def pair(samples: Tensor) -> Pair:
    """(mean, standard error)."""
    estimate = Estimate.of(samples)
    return estimate.mean, estimate.stderr
