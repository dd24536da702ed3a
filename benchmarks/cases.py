"""What is simulated: a process, how many paths, how many steps, in which precision."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import MODELS, Linear, Model

Numbers: TypeAlias = NDArray[np.floating]
Size = Literal["small", "full"]


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        name: of the model.
        batch: number of paths.
        steps: Euler–Maruyama steps a path.
        dtype: "float32" or "float64".
        cost: also the return −∫(|x|² + |a|²)dt − |x_T|² of each path.
    """

    name: str
    batch: int
    steps: int
    dtype: str
    cost: bool = False

    @property
    def model(self) -> Model:
        """What is simulated."""
        return MODELS[self.name]

    @property
    def step(self) -> float:
        """h."""
        return self.model.horizon / self.steps

    @property
    def start(self) -> NDArray[np.float64] | None:
        """Where all paths start, (d,); None for N(0, I)."""
        return self.model.start if isinstance(self.model, Linear) else None

    def __str__(self) -> str:
        cost = ", cost" if self.cost else ""
        return (
            f"{self.name} d={self.model.dimension}{cost}, {self.batch:.0e} × {self.steps}, "
            f"{self.dtype}".replace("e+0", "e")
        )


@dataclass(frozen=True)
class Rollout:
    """What a contender hands back.

    Attributes:
        final: X_T, (batch, d).
        returns: (batch,), if the case has a cost.
    """

    final: Numbers
    returns: Numbers | None = None


Run: TypeAlias = Callable[[int], Rollout]
"""A simulation that is ready to go; takes the seed."""
Contender: TypeAlias = Callable[[Case], Run | None]
"""Prepares a case, compilation included; None for one that it cannot do."""


def cases(size: Size) -> list[Case]:
    """The table; the small one has 10⁴ paths, and 1,000 steps in float32 alone."""
    everything = [
        Case(*row)
        for row in product(MODELS, (10_000, 100_000), (100, 1_000), ("float32", "float64"))
    ]
    everything += [
        Case(name, 10_000, 100, dtype, cost=True)
        for name, dtype in product(("OU", "LQ"), ("float32", "float64"))
    ]
    if size == "full":
        return everything
    linear = ("OU", "LQ")
    return [
        case
        for case in everything
        if case.batch == 10_000
        and (case.steps == 100 or (case.name in linear and case.dtype == "float32"))
    ]
