"""A linear-Gaussian policy as plain arrays: what the exact formulas read."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ctcontrol._checks import CtcontrolError
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array, as_semidefinite
from ctcontrol.exact.lq._schedule import Constant, Schedule, as_schedule

ScheduleLike = Schedule | Callable[[float], Array] | Numbers
"""A schedule, a smooth function of time, or an array for all times."""


@dataclass(frozen=True, eq=False, init=False)
class LinearGaussianLaw:
    """u ~ N(−K(t) x + k(t), Λ(t)), for the exact formulas.

    Args:
        gain: K, (actions, states); an array, a `Piecewise`, or a smooth function of time.
        offset: k, (actions,), likewise; 0 by default.
        covariance: Λ, (actions, actions), likewise; a number stands for that multiple of the
            identity; 0, the deterministic policy, by default.

    Raises:
        CtcontrolError: shapes that do not fit, or a covariance that is not positive
            semidefinite at time 0 or on a piece.
    """

    gain: Schedule
    offset: Schedule
    covariance: Schedule

    def __init__(
        self, gain: ScheduleLike, offset: ScheduleLike = 0.0, covariance: ScheduleLike = 0.0
    ) -> None:
        gain = as_schedule(gain)
        first = as_array("gain", gain(0.0))
        if first.ndim != 2:
            raise CtcontrolError(
                f"gain must be a matrix (actions, states), got shape {first.shape}; "
                "a scalar problem has a gain of shape (1, 1)"
            )
        actions = first.shape[0]
        offset = _broadcast(as_schedule(offset), np.ones(actions))
        covariance = _broadcast(as_schedule(covariance), np.eye(actions))
        as_array("offset", offset(0.0), (actions,))
        for t in (0.0, *covariance.jumps):
            as_semidefinite("covariance", covariance(t), actions)
        object.__setattr__(self, "gain", gain)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "covariance", covariance)

    @property
    def actions(self) -> int:
        """Number of action coordinates."""
        return self.gain(0.0).shape[0]

    @property
    def states(self) -> int:
        """Number of state coordinates."""
        return self.gain(0.0).shape[1]

    @property
    def schedules(self) -> tuple[Schedule, Schedule, Schedule]:
        """Gain, offset and covariance."""
        return self.gain, self.offset, self.covariance

    def at(self, t: float) -> tuple[Array, Array, Array]:
        """(K, k, Λ) at time t."""
        return self.gain(t), self.offset(t), self.covariance(t)

    def within(self, t0: float, t1: float) -> Callable[[float], tuple[Array, Array, Array]]:
        """(K, k, Λ) as smooth functions on (t0, t1)."""
        return self.restricted(t0, t1).at

    def restricted(self, t0: float, t1: float) -> "LinearGaussianLaw":
        """The law that agrees with this one on (t0, t1) and is smooth everywhere."""
        return LinearGaussianLaw(*(s.within(t0, t1) for s in self.schedules))


def _broadcast(schedule: Schedule, unit: Array) -> Schedule:
    """A constant number becomes that multiple of `unit`."""
    if isinstance(schedule, Constant) and schedule.value.ndim == 0:
        return Constant(schedule.value * unit)
    return schedule
