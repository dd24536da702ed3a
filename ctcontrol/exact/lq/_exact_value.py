"""The exact value of a linear-Gaussian policy as a `Value`, in continuous time and on a grid."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._tensor import linear, shared
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Jet, QuadraticStateValue
from ctcontrol.exact.lq._arrays import Array
from ctcontrol.exact.lq._value_function import Quadratic, QuadraticValue


class ExactValue(QuadraticStateValue):
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

    def gradient(self, t: Time, x: State, context: Context, mean: Action | None = None) -> State:
        """−2(Px + p), detached."""
        if not shared(t):
            return super().gradient(t, x, context, mean)
        now = self.function.at(float(t[0]))  # of a rollout, where all rows have the same time
        P, p = torch.as_tensor(now.P).to(x), torch.as_tensor(now.p).to(x)
        return -2 * (linear(P, x.detach()) + p)

    def quadratic(self, times: Sequence[float]) -> tuple[Tensor, Tensor]:
        now = self.function.at(np.array(times))
        return -torch.as_tensor(now.P), -torch.as_tensor(now.p)


class ChainValue(QuadraticStateValue):
    """V_k(x) at the nodes t_k of an Euler–Maruyama chain: with it, temporal differences are exact.

    A chain has no time between its nodes: ∂V/∂t of a jet is NaN.

    Args:
        nodes: (steps + 1,), the times.
        functions: their values, coefficients with a leading axis (steps + 1).
    """

    def __init__(self, nodes: Array, functions: Quadratic) -> None:
        super().__init__()
        self.nodes = nodes
        self.functions = functions

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,); raises `CtcontrolError` where t is not a node."""
        return _evaluate(*_tensors(self.functions, self._rows(t), x), x)

    def jet(
        self,
        t: Time,
        x: State,
        context: Context,
        mean: Action | None = None,
        *,
        hessian: bool = False,
    ) -> Jet:
        """V, ∇V and ∇²V at the nodes; ∂V/∂t is NaN."""
        x = x.detach()
        P, p, c = _tensors(self.functions, self._rows(t), x)
        return Jet(
            value=_evaluate(P, p, c, x),
            time=torch.full_like(c, torch.nan),
            gradient=-2 * (torch.einsum("bij,bj->bi", P, x) + p),
            hessian=-2 * P if hessian else None,
        )

    def quadratic(self, times: Sequence[float]) -> tuple[Tensor, Tensor]:
        rows = self._rows(torch.tensor(list(times), dtype=torch.float64))
        P, p = torch.as_tensor(self.functions.P), torch.as_tensor(self.functions.p)
        return -P[rows], -p[rows]

    def _rows(self, t: Time) -> Tensor:
        gap = (t.detach().double().cpu()[:, None] - torch.tensor(self.nodes)).abs()
        distance, index = gap.min(1)
        if float(distance.max()) > 1e-5 * float(self.nodes[-1]):
            raise CtcontrolError(
                f"t = {float(t[int(distance.argmax())]):.6g} is not a node of this chain; evaluate "
                "its value on its own grid, or use LQProblem.value, which has all times"
            )
        return index.to(t.device)


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
