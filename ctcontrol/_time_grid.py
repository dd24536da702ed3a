"""Where a process is observed and actions are chosen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_count, check_positive


@dataclass(frozen=True, eq=False)
class TimeGrid:
    """Strictly increasing control times 0 ≤ t_0 < … < t_N.

    Times are kept in float64 whatever the dtype of the states, so that grids of different
    fineness share their nodes exactly.

    Attributes:
        times: (steps + 1,), float64, on the CPU.

    Raises:
        CtcontrolError: fewer than two times, a negative one, or times that do not strictly
            increase.
    """

    times: Tensor

    def __post_init__(self) -> None:
        times = torch.as_tensor(self.times, dtype=torch.float64).cpu()
        if times.ndim != 1 or len(times) < 2:
            raise CtcontrolError(
                f"a time grid needs at least two times in one row, got shape {tuple(times.shape)}"
            )
        if not bool(torch.isfinite(times).all()) or not bool((times.diff() > 0).all()):
            raise CtcontrolError(
                f"times must be finite and strictly increase, got {times.tolist()[:8]}; "
                "sort them and drop repeats"
            )
        if float(times[0]) < 0:
            raise CtcontrolError(
                f"control time starts at 0, got a first time of {float(times[0]):g}; shift them"
            )
        object.__setattr__(self, "times", times)

    @classmethod
    def uniform(cls, horizon: float, steps: int) -> "TimeGrid":
        """t_k = k · horizon / steps for k = 0 … steps."""
        check_positive("horizon", horizon)
        check_count("steps", steps)
        times = torch.arange(steps + 1, dtype=torch.float64) * horizon / steps
        times[-1] = horizon  # exactly, whatever the rounding
        return cls(times)

    @classmethod
    def from_times(cls, times: Sequence[float]) -> "TimeGrid":
        """A grid with exactly these nodes."""
        return cls(torch.tensor(list(times), dtype=torch.float64))

    def refine(self, k: int) -> "TimeGrid":
        """Split every interval into k equal ones; the old nodes stay nodes, exactly."""
        check_count("k", k)
        fraction = torch.arange(k, dtype=torch.float64) / k
        inside = self.times[:-1, None] + self.lengths[:, None] * fraction
        return TimeGrid(torch.cat([inside.flatten(), self.times[-1:]]))

    @property
    def steps(self) -> int:
        """Number of intervals N."""
        return len(self.times) - 1

    @property
    def horizon(self) -> float:
        """The last time t_N."""
        return self.nodes[-1]

    @cached_property
    def nodes(self) -> list[float]:
        """The times as numbers."""
        return self.times.tolist()

    @property
    def lengths(self) -> Tensor:
        """t_{k+1} − t_k, shape (steps,)."""
        return self.times.diff()

    @cached_property
    def distinct_lengths(self) -> tuple[list[float], list[int]]:
        """The lengths that differ by more than rounding, and which of them every interval has."""
        unit = 1e-12 * self.horizon  # the lengths of a uniform grid are one, up to rounding
        known: dict[int, int] = {}
        lengths: list[float] = []
        which: list[int] = []
        for length in self.lengths.tolist():
            index = known.setdefault(round(length / unit), len(lengths))
            if index == len(lengths):
                lengths.append(length)
            which.append(index)
        return lengths, which

    def intervals(self) -> Iterator[tuple[float, float]]:
        """(t_k, t_{k+1}) in order. Only the time loop of `simulate` walks it."""
        return pairwise(self.nodes)
