"""Ordinary differential equations with dense output across the jumps of their coefficients."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import OdeSolution, solve_ivp

from ctcontrol._checks import CtcontrolError
from ctcontrol.exact.lq._arrays import Array

RightHandSide = Callable[[float, Array], Array]
"""(t, y) ↦ dy/dt for a flat state y of shape (n,)."""

_RELATIVE_TOLERANCE = 1e-12
_ABSOLUTE_TOLERANCE = 1e-14
_ESCAPE = 1e12


@dataclass(frozen=True, eq=False)
class DenseSolution:
    """A solution y(t) with one `OdeSolution` per interval between increasing knots."""

    knots: Array
    pieces: tuple[OdeSolution, ...]

    def __call__(self, t: float | Array) -> Array:
        """y(t): (n,) for a number t, (len(t), n) for a vector of times."""
        index = np.searchsorted(self.knots[1:-1], t, side="right")
        if np.ndim(t) == 0:
            return self.pieces[int(index)](t)
        times = np.asarray(t, dtype=np.float64)
        out = np.empty((len(times), len(self(self.knots[0]))))
        for j in np.unique(index):
            rows = index == j
            out[rows] = self.pieces[j](times[rows]).T
        return out


def integrate(
    equation: Callable[[float, float], RightHandSide],
    start: Array,
    knots: Array,
    *,
    backward: bool = False,
    what: str = "the differential equation",
) -> DenseSolution:
    """Solve y' = f(t, y) across `knots`, forward from the first or backward from the last.

    DOP853 (Dormand and Prince, order 8, dense output of order 7) with relative tolerance 1e-12,
    restarted at every knot so that jumps of the coefficients cost no accuracy.

    Args:
        equation: (t0, t1) ↦ the right-hand side that is smooth on (t0, t1).
        start: (n,), the value at the end where the integration starts.
        knots: (knots,), increasing.
        backward: start at the last knot.
        what: the subject of the error message.

    Raises:
        CtcontrolError: |y| passes 1e12 times its scale (finite escape time), or the step size
            underflows; the message names the time.
    """
    pieces: list[OdeSolution] = []
    y = np.asarray(start, dtype=np.float64)
    scale = max(1.0, float(np.abs(y).max(initial=0.0)))
    intervals = list(itertools.pairwise(knots))

    def margin(t: float, state: Array) -> float:
        return _ESCAPE * scale - float(np.abs(state).max(initial=0.0))

    margin.terminal = True  # type: ignore[attr-defined]  # scipy reads this attribute

    for t0, t1 in reversed(intervals) if backward else intervals:
        result = solve_ivp(
            equation(float(t0), float(t1)),
            (t1, t0) if backward else (t0, t1),
            y,
            method="DOP853",
            dense_output=True,
            events=margin,
            rtol=_RELATIVE_TOLERANCE,
            atol=_ABSOLUTE_TOLERANCE * scale,
        )
        if result.status != 0:
            begin, stop = float(knots[-1] if backward else knots[0]), float(result.t[-1])
            raise CtcontrolError(
                f"{what} has no finite solution on [{knots[0]:g}, {knots[-1]:g}]: it escapes to "
                f"infinity near t = {stop:.6g}, {abs(stop - begin):.6g} away from where it "
                "starts; take a horizon shorter than that"
            )
        pieces.append(result.sol)
        y = result.y[:, -1]
    return DenseSolution(np.asarray(knots), tuple(reversed(pieces) if backward else pieces))
