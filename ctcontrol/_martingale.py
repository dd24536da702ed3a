"""What the noise does to a value: the increments of the martingale of V along a rollout."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._motion import is_sure
from ctcontrol._problem import ControlProblem
from ctcontrol._sde import AdditiveNoiseSDE, ConstantLinearSDE
from ctcontrol._step import Step
from ctcontrol._tensor import inner, linear
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Context, Scalar, State
from ctcontrol._value import QuadraticStateValue, Value
from ctcontrol.solvers import Scheme, Solver


class Martingale:
    """Discounted increments of mean zero given the past, whatever V is, step by step.

    To first order e^{−ρt_k} ⟨∇V(t_k, X_k), ξ_k⟩ with the innovation ξ_k = X_{k+1} − E[X_{k+1}|X_k].
    Where V is quadratic in x and the action sure, all of it:
    e^{−ρt_{k+1}} (V(t_{k+1}, X_{k+1}) − E[V(t_{k+1}, X_{k+1})|X_k]), so that nothing is left of the
    variance if V is the value of the policy's own chain.

    Args:
        value: V.
        scheme: of the rollout, which knows the covariance of its steps; without it all increments
            are of first order.
    """

    def __init__(
        self, value: Value, problem: ControlProblem, grid: TimeGrid, scheme: Scheme | None
    ) -> None:
        self.value, self.sde, self.scheme = value, problem.sde, scheme
        self.times, self.lengths = grid.times.tolist(), grid.lengths.tolist()
        self.weights = [math.exp(-problem.discount * t) for t in self.times]
        self.covariances: dict[str, Tensor] = {}
        self.forms: tuple[Tensor, Tensor] | None = None

    def gained(self, step: Step, context: Context) -> Scalar | None:
        """(batch,); None where the scheme does not know E[X_{k+1}|X_k]."""
        if step.center is None:
            return None
        innovation = step.moved - step.center
        value, scheme = self.value, self.scheme
        if isinstance(value, QuadraticStateValue) and isinstance(scheme, Solver) and _sure(step):
            if self.forms is None:
                form, slope = value.quadratic(self.times[1:])
                self.forms = form.to(step.x), slope.to(step.x)
            M, m = self.forms[0][step.k], self.forms[1][step.k]
            image = torch.addmm(2 * m[:, None], M, (step.moved + step.center).mT).mT
            gain = inner(innovation, image) - self._spread(M, step, scheme)
            return gain * self.weights[step.k + 1]
        mean = step.action if step.law is None else step.law.mean
        slope = value.given(step.notes).gradient(step.t0, step.x, context, mean)
        return inner(slope, innovation) * self.weights[step.k]

    def _spread(self, M: Float[Tensor, "d d"], step: Step, scheme: Solver) -> Scalar:
        """tr(M Σ), Σ the covariance of the step given its past; one number where rows share it."""
        if isinstance(self.sde, ConstantLinearSDE):
            key = f"{self.lengths[step.k]:.12e}"
            if key not in self.covariances:
                self.covariances[key] = self._shared(step, scheme)
            return (M * self.covariances[key]).sum()
        if isinstance(self.sde, AdditiveNoiseSDE):
            return (M * self._shared(step, scheme)).sum()
        total = step.x.new_zeros(len(step.x))
        unit = self._unit(step, scheme, len(step.x))
        for j in range(unit[0].numel()):
            unit.zero_().flatten(1)[:, j] = 1.0
            moved = self._noise(step, scheme, unit)
            total += inner(moved, linear(M, moved))
        return total * self.lengths[step.k]

    def _shared(self, step: Step, scheme: Solver) -> Float[Tensor, "d d"]:
        """Σ where it is the same for all rows, from the first of them."""
        size = self._unit(step, scheme, 1)[0].numel()
        unit = self._unit(step, scheme, size)
        unit.copy_(torch.eye(size).to(unit).reshape(unit.shape))
        rows = self._noise(step, scheme, unit)
        return rows.mT @ rows * self.lengths[step.k]

    def _unit(self, step: Step, scheme: Solver, rows: int) -> Tensor:
        return scheme.noise_like(self.sde, *_first(rows, step.t0, step.x, step.action)).contiguous()

    def _noise(self, step: Step, scheme: Solver, dw: Tensor) -> State:
        t1 = step.t0.new_tensor(self.times[step.k + 1]).expand(len(step.x))
        t0, end, x, a = _first(len(dw), step.t0, t1, step.x, step.action)
        return scheme.noise(self.sde, t0, end, x, a, dw)


def _first(rows: int, *tensors: Tensor | None) -> tuple[Tensor, ...]:
    """All rows of each, or its first row as many times as asked for."""
    known = [tensor for tensor in tensors if tensor is not None]
    return tuple(t if len(t) == rows else t[:1].expand(rows, *t.shape[1:]) for t in known)


def _sure(step: Step) -> bool:
    """Whether the action is known given the state, so that all noise is the scheme's."""
    return (
        step.x.ndim == 2 and step.action is not None and (step.law is None or is_sure(step.law.std))
    )
