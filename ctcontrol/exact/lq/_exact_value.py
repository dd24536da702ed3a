"""The exact value of a linear-Gaussian policy, with its derivatives, as a `Value`."""

import numpy as np
import torch
from torch import Tensor

from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Jet, Value
from ctcontrol.exact.lq._value_function import Quadratic, QuadraticValue


class ExactValue(Value):
    """V(t, x) = −xᵀP(t)x − 2p(t)ᵀx − c(t), solved in float64, given in the dtype of x.

    `at` is differentiable in x; its derivative in t comes from `jet`, because autograd cannot
    see through the solution of a differential equation.
    """

    def __init__(self, function: QuadraticValue) -> None:
        super().__init__()
        self.function = function

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,)."""
        times, row = _distinct(t)
        return _evaluate(*_tensors(self.function.at(times), row, x), x)

    def jet(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        *,
        hessian: bool = False,
    ) -> Jet:
        """V, ∂V/∂t = −xᵀṖx − 2ṗᵀx − ċ, ∇V = −2(Px + p) and ∇²V = −2P; detached."""
        times, row = _distinct(t)
        x = x.detach()
        P, p, c = _tensors(self.function.at(times), row, x)
        return Jet(
            value=_evaluate(P, p, c, x),
            time=_evaluate(*_tensors(self.function.rate(times), row, x), x),
            gradient=-2 * (torch.einsum("bij,bj->bi", P, x) + p),
            hessian=-2 * P if hessian else None,
        )


def _distinct(t: Tensor) -> tuple[np.ndarray, Tensor]:
    """The distinct times of a batch (rollouts have few), and the index of each row among them."""
    times, row = np.unique(t.detach().double().cpu().numpy(), return_inverse=True)
    return times, torch.as_tensor(row, device=t.device)


def _tensors(quadratic: Quadratic, row: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of each row, in the dtype and on the device of x."""
    P, p, c = (torch.as_tensor(v).to(x)[row] for v in (quadratic.P, quadratic.p, quadratic.c))
    return P, p, c


def _evaluate(P: Tensor, p: Tensor, c: Tensor, x: Tensor) -> Tensor:
    """−xᵀPx − 2pᵀx − c, row by row."""
    return -torch.einsum("bi,bij,bj->b", x, P, x) - 2 * (p * x).sum(-1) - c
