"""Steps of linear SDEs that are exact in law, whatever their length."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import cholesky, solve_triangular, svd
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._sde import (
    ConstantLinearSDE,
    ControlledSDE,
    ElementwiseActionSDE,
    UncontrolledVolatilitySDE,
    of_kind,
)
from ctcontrol._tensor import inner, like, linear, shared
from ctcontrol._typing import Action, Context, Noise, Scalar, State, Time
from ctcontrol.solvers._base import Solver
from ctcontrol.solvers._van_loan import Array, transition


@dataclass(frozen=True)
class ExactLinear(Solver):
    """X' ~ N(F x + G a + f', Γ): the law of dX = (AX + Ba + f)dt + σdW with a held, no error.

    F = e^{AΔ}, G = ∫₀^Δ e^{As}ds B, Γ = ∫₀^Δ e^{As}σσᵀe^{Aᵀs}ds (Van Loan 1978), factorised once
    for every length of a step. Exact at the nodes for any step length, stiff or not; there is no
    order. The noise is SΔW with SSᵀ = Γ/Δ and S as near to F̄σ as can be, so that a coarse and a
    fine grid on one Brownian path stay together to strong order 1. Γ has full rank also where σ
    has not but the noise reaches all states; then KL and likelihood ratios are finite that for
    Euler–Maruyama are not.

    Exact is the process whose action is *held*: rewards are those at the nodes, and feedback is
    delayed by a step (`ctcontrol.exact.lq.Skeleton` has continuous feedback and the rewards of
    whole steps). Matrices are prepared in float64 on the CPU from the length of the step, which
    is read from the device.

    Raises:
        CtcontrolError: at a step, dynamics that are not a `ConstantLinearSDE`.
    """

    def noise_like(self, sde: ControlledSDE, t0: Time, x: State, a: Action) -> Noise:
        d, k = _linear(sde).coefficients().sigma.shape
        return x.new_empty(len(x), max(d, k))

    def mean(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, context: Context
    ) -> State:
        step = _rows(sde, t0, t1, x)
        return _apply(step.decay, x) + _apply(step.gain, a) + step.shift

    def noise(
        self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
    ) -> State:
        return _apply(_rows(sde, t0, t1, x).root, dw)

    def driving(
        self, sde: UncontrolledVolatilitySDE, t0: Time, t1: Time, x: State, a: Action, v: State
    ) -> Noise:
        return _apply(_regular(_rows(sde, t0, t1, x)).inverse, v)

    def step_kl(
        self,
        sde: UncontrolledVolatilitySDE,
        t0: Time,
        t1: Time,
        x: State,
        a: Action,
        reference: Action,
        context: Context,
    ) -> Scalar:
        step = _regular(_rows(sde, t0, t1, x))
        white = _apply(step.inverse, _apply(step.gain, a - reference))
        return 0.5 * inner(white, white) / (t1 - t0)

    def absorbing_std(self, sde: ElementwiseActionSDE, t0: Time, t1: Time) -> Scalar:
        """|G|⁻¹Γ^½, where these are multiples of the identity up to a rotation."""
        step = _rows(sde, t0, t1, t0)
        pushed = step.gain @ step.gain.mT
        covariance = like(t1 - t0, pushed) * (step.root @ step.root.mT)
        trace = [v.diagonal(dim1=-2, dim2=-1).sum(-1) for v in (covariance, pushed)]
        square = (trace[0] / trace[1]).expand(len(t0))
        gap = (covariance - square[:, None, None] * pushed).abs().amax((-2, -1))
        if not bool((gap <= 1e-5 * covariance.abs().amax((-2, -1))).all()):
            raise CtcontrolError(
                "the noise of an exact step has correlations that no independent actions have; "
                "use EulerMaruyama() for policies that absorb the noise"
            )
        return square.sqrt()


@dataclass(frozen=True, eq=False)
class _Step:
    """F, G, f', S and the inverse of S for one length, or stacked for rows."""

    decay: Tensor
    gain: Tensor
    shift: Tensor
    root: Tensor
    inverse: Tensor
    regular: Tensor


def _linear(sde: ControlledSDE) -> ConstantLinearSDE:
    remedy = "exact steps need linear drift and constant noise; use EulerMaruyama()"
    return of_kind(sde, ConstantLinearSDE, "ExactLinear", remedy)


def _rows(sde: ControlledSDE, t0: Time, t1: Time, x: Tensor) -> _Step:
    """The step of every row; one for all where they share its length."""
    sde, digits = _linear(sde), 12 if t0.dtype == torch.float64 else 6

    def step(h: float) -> _Step:
        # Rounding makes the lengths of a uniform grid differ in their last digits.
        return _step(sde, float(f"{h:.{digits}g}"), x.dtype, x.device)

    if shared(t0) and shared(t1):
        return step(float(t1[0]) - float(t0[0]))
    lengths, row = torch.unique((t1 - t0).double(), return_inverse=True)
    steps = [step(h) for h in lengths.tolist()]
    if len({id(one) for one in steps}) == 1:
        return steps[0]
    names = vars(steps[0])
    return _Step(**{name: torch.stack([getattr(s, name) for s in steps])[row] for name in names})


@lru_cache(maxsize=1024)
def _step(sde: ConstantLinearSDE, length: float, dtype: torch.dtype, device: torch.device) -> _Step:
    c = sde.coefficients()
    A, B, f, sigma = (v.detach().double().cpu().numpy() for v in (c.A, c.B, c.f, c.sigma))
    actions = B.shape[1]
    exact = transition(A, np.column_stack([B, f]), sigma @ sigma.T, length)
    drifting = transition(A, sigma, np.zeros_like(A), length).gain / length  # the mean of e^{As}σ
    root, inverse = _factor(exact.covariance / length, drifting)

    def tensor(array: Array) -> Tensor:
        return torch.tensor(array, dtype=dtype, device=device)

    return _Step(
        decay=tensor(exact.decay),
        gain=tensor(exact.gain[:, :actions]),
        shift=tensor(exact.gain[:, actions]),
        root=tensor(root),
        inverse=tensor(np.zeros_like(root.T) if inverse is None else inverse),
        regular=torch.tensor(inverse is not None, device=device),
    )


def _factor(covariance: Array, near: Array) -> tuple[Array, Array | None]:
    """S (d, max(d, k)) with SSᵀ = covariance, nearest to `near` (d, k), and its inverse if any."""
    d, k = near.shape
    target = np.column_stack([near, np.zeros((d, max(0, d - k)))])
    scale = np.sqrt(np.diag(covariance))
    correlations = covariance / np.outer(scale, scale) if scale.all() else np.zeros((d, d))
    regular = np.linalg.eigvalsh(correlations)[0] > 1e-13
    if regular:
        root = np.asarray(cholesky(covariance, lower=True))
    else:
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(values.clip(0.0))
    left, _, right = svd(root.T @ target, full_matrices=False)  # Procrustes
    rotation = left @ right
    inverse = rotation.T @ solve_triangular(root, np.eye(d), lower=True) if regular else None
    return root @ rotation, inverse


def _regular(step: _Step) -> _Step:
    if not bool(step.regular.all()):
        raise CtcontrolError(
            "the noise of a step does not reach all states, and likelihood ratios and path KL "
            "need it to; use a volatility that excites every state"
        )
    return step


def _apply(matrix: Tensor, v: Tensor) -> Tensor:
    """Matrix times vectors (batch, n): one matrix, or one a row."""
    return linear(matrix, v) if matrix.ndim == 2 else torch.einsum("bij,bj->bi", matrix, v)
