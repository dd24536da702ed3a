"""Arrays that depend on control time: constant, piecewise constant, or a smooth function."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ctcontrol._checks import CtcontrolError
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array


class Schedule(ABC):
    """An array-valued function of control time t."""

    @abstractmethod
    def __call__(self, t: float) -> Array:
        """The array at time t; at a jump, the value of the piece that begins there."""

    @property
    @abstractmethod
    def jumps(self) -> tuple[float, ...]:
        """Interior times at which the function is not smooth, increasing."""

    @abstractmethod
    def within(self, t0: float, t1: float) -> "Schedule":
        """The smooth function that agrees with this one on the open interval (t0, t1)."""


@dataclass(frozen=True, eq=False)
class Constant(Schedule):
    """The same array at all times."""

    value: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", as_array("value", self.value))

    def __call__(self, t: float) -> Array:
        return self.value

    @property
    def jumps(self) -> tuple[float, ...]:
        return ()

    def within(self, t0: float, t1: float) -> Schedule:
        return self


@dataclass(frozen=True, eq=False)
class Piecewise(Schedule):
    """`values[j]` on [times[j], times[j+1]); the first and last pieces extend outward.

    Attributes:
        times: (pieces + 1,), strictly increasing, in units of control time.
        values: (pieces, ...), one array a piece.

    Raises:
        CtcontrolError: times that do not increase, or another number of rows than of pieces.
    """

    times: Array
    values: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", as_array("times", self.times))
        object.__setattr__(self, "values", as_array("values", self.values))
        if self.times.ndim != 1 or len(self.times) < 2 or not (np.diff(self.times) > 0).all():
            raise CtcontrolError(
                f"times must be at least two strictly increasing numbers, got {self.times}"
            )
        if self.values.ndim == 0 or len(self.values) != len(self.times) - 1:
            raise CtcontrolError(
                f"values must have one row for each of the {len(self.times) - 1} pieces between "
                f"the times, got shape {self.values.shape}"
            )

    def __call__(self, t: float) -> Array:
        return np.asarray(self.values[int(np.searchsorted(self.times[1:-1], t, side="right"))])

    @property
    def jumps(self) -> tuple[float, ...]:
        return tuple(float(t) for t in self.times[1:-1])

    def within(self, t0: float, t1: float) -> Schedule:
        return Constant(self((t0 + t1) / 2))


@dataclass(frozen=True, eq=False)
class Smooth(Schedule):
    """A smooth function t ↦ array, such as the optimal gain of a finite-horizon problem."""

    function: Callable[[float], Array]

    def __call__(self, t: float) -> Array:
        return self.function(t)

    @property
    def jumps(self) -> tuple[float, ...]:
        return ()

    def within(self, t0: float, t1: float) -> Schedule:
        return self


def as_schedule(value: Schedule | Callable[[float], Array] | Numbers) -> Schedule:
    """Read an array as `Constant`, a function as `Smooth`; a `Schedule` is returned unchanged."""
    if isinstance(value, Schedule):
        return value
    if callable(value):
        return Smooth(value)
    return Constant(as_array("a policy's array", value))


def knots_of(horizon: float, schedules: Sequence[Schedule]) -> Array:
    """0, every jump of the schedules inside (0, horizon), and the horizon; (knots,)."""
    inside = {t for s in schedules for t in s.jumps if 0.0 < t < horizon}
    return np.array([0.0, *sorted(inside), horizon])
