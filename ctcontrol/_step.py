"""One step of a rollout."""

from typing import NamedTuple

from torch import Tensor

from ctcontrol._gaussian import Gaussian


class Step(NamedTuple):
    """One step of a tile of paths, as the loop hands it over.

    Attributes:
        law, action: None where nobody asked for them.
        center: E[X'|X] where the scheme knows it, else None.
        reward: r per unit of time, or None for none.
        penalty: the regularizer's amount over the step, or None for none.
        alive: which paths moved, or None for all.
        notes: what the policy's network found besides the action, or None.
    """

    k: int
    t0: Tensor
    x: Tensor
    law: Gaussian | None
    action: Tensor | None
    center: Tensor | None
    moved: Tensor
    reward: Tensor | None
    penalty: Tensor | None
    anchor: Tensor | None
    alive: Tensor | None
    notes: Tensor | None = None
