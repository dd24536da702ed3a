"""Linear dynamics, quadratic rewards and Gaussian starts, on the types of the simulator."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import check_fits
from ctcontrol._policy import Feedback
from ctcontrol._reward import QuadraticForm, Reward
from ctcontrol._sde import ConstantLinearSDE, ElementwiseActionSDE, LinearCoefficients
from ctcontrol._tensor import inner, linear, varies
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._volatility import (
    DenseVolatility,
    DiagonalVolatility,
    ScalarVolatility,
    Volatility,
)
from ctcontrol.exact.lq._arrays import Array


@dataclass(frozen=True, eq=False)
class ConstantVolatility:
    """σ, constant in time and state, as the cheapest operator that represents it.

    Attributes:
        matrix: (d, k), or (d,) for a diagonal, or () for a multiple of the identity.
    """

    matrix: Tensor

    @classmethod
    def of(
        cls, matrix: Array, dtype: torch.dtype, device: torch.device | str
    ) -> "ConstantVolatility":
        """Recognise the structure of a (d, k) matrix."""
        if matrix.shape[0] == matrix.shape[1] and not (matrix - np.diag(np.diag(matrix))).any():
            diagonal = np.diag(matrix)
            matrix = diagonal[0] if (diagonal == diagonal[0]).all() else diagonal
        return cls(torch.tensor(matrix, dtype=dtype, device=device))

    def dense(self, states: int) -> Tensor:
        """σ as a matrix (d, k)."""
        if self.matrix.ndim == 0:
            return self.matrix * torch.eye(states).to(self.matrix)
        return self.matrix.diag() if self.matrix.ndim == 1 else self.matrix

    def at(self, t: Time) -> Volatility:
        """The operator for rows at times t."""
        if self.matrix.ndim == 0:
            return ScalarVolatility(self.matrix.expand(len(t)))
        if self.matrix.ndim == 1:
            return DiagonalVolatility(self.matrix.expand(len(t), -1))
        return DenseVolatility(self.matrix)


@dataclass(frozen=True, eq=False)
class LinearSDE(ConstantLinearSDE):
    """dX = (AX + Bu)dt + σdW.

    Attributes:
        A: (d, d), per unit of time.
        B: (d, m), per unit of time.
        noise: σ, per square root of a unit of time.
    """

    A: Float[Tensor, "d d"]
    B: Float[Tensor, "d m"]
    noise: ConstantVolatility

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return linear(self.A, check_fits("the state", x, len(self.A), self.A.dtype))

    def action_drift(self, t: Time, a: Action) -> State:
        return linear(self.B, check_fits("the action", a, self.B.shape[1], self.B.dtype))

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return self.noise.at(t)

    def coefficients(self) -> LinearCoefficients:
        d = len(self.A)
        return LinearCoefficients(self.A, self.B, self.A.new_zeros(d), self.noise.dense(d))


@dataclass(frozen=True, eq=False)
class ElementwiseLinearSDE(ElementwiseActionSDE, ConstantLinearSDE):
    """dX = (AX + γu)dt + σdW with a number γ: here the action can absorb the noise, as in DDPO.

    Attributes:
        A: (d, d), per unit of time.
        gain: γ, per unit of time.
        noise: σ, per square root of a unit of time.
    """

    A: Float[Tensor, "d d"]
    gain: float
    noise: ConstantVolatility

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return linear(self.A, check_fits("the state", x, len(self.A), self.A.dtype))

    def action_gain(self, t: Time) -> Scalar:
        return t.new_tensor(self.gain).expand(len(t))

    def action_drift(self, t: Time, a: Action) -> State:
        return self.gain * check_fits("the action", a, len(self.A), self.A.dtype)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return self.noise.at(t)

    def coefficients(self) -> LinearCoefficients:
        d = len(self.A)
        B = self.gain * torch.eye(d).to(self.A)
        return LinearCoefficients(self.A, B, self.A.new_zeros(d), self.noise.dense(d))


def linear_sde(
    A: Array, B: Array, volatility: Array, dtype: torch.dtype, device: torch.device | str
) -> LinearSDE | ElementwiseLinearSDE:
    """The linear SDE of these matrices; elementwise in the action where B is a multiple of I."""
    noise = ConstantVolatility.of(volatility, dtype, device)
    drift = torch.tensor(A, dtype=dtype, device=device)
    if B.shape == A.shape and B[0, 0] != 0 and (B == B[0, 0] * np.eye(len(B))).all():
        return ElementwiseLinearSDE(drift, float(B[0, 0]), noise)
    return LinearSDE(drift, torch.tensor(B, dtype=dtype, device=device), noise)


@dataclass(frozen=True, eq=False)
class QuadraticReward(Reward):
    """r = −(xᵀQx + 2xᵀSu + uᵀRu) per unit of time, h = −xᵀGx.

    Attributes:
        Q: (d, d).
        R: (m, m).
        S: (d, m), or None for none.
        G: (d, d).
    """

    Q: Float[Tensor, "d d"]
    R: Float[Tensor, "m m"]
    S: Float[Tensor, "d m"] | None
    G: Float[Tensor, "d d"]

    @classmethod
    def of(
        cls, Q: Array, R: Array, S: Array, G: Array, dtype: torch.dtype, device: torch.device | str
    ) -> "QuadraticReward":
        """From numpy matrices."""
        Q_, R_, S_, G_ = (torch.tensor(x, dtype=dtype, device=device) for x in (Q, R, S, G))
        return cls(Q_, R_, S_ if S.any() else None, G_)

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        check_fits("the action", a, len(self.R), self.R.dtype)
        cost = inner(x, linear(self.Q, x)) + inner(a, linear(self.R, a))
        if self.S is not None:
            cost = cost + 2 * inner(x, linear(self.S, a))
        return -cost

    def terminal(self, x: State, context: Context) -> Scalar:
        return -inner(x, linear(self.G, x))

    def under(self, feedback: Feedback) -> QuadraticForm:
        K, k = feedback
        S = self.Q.new_zeros(K.mT.shape) if self.S is None else self.S
        SK, RK = S @ K, self.R @ K
        matrix = self.Q - SK - SK.mT + K.mT @ RK
        slope = (RK.mT - S) @ k if varies(k) or bool(k.any()) else None
        return QuadraticForm(-matrix, slope, -(k @ self.R @ k))


@dataclass(frozen=True, eq=False)
class GaussianInitialLaw:
    """X_0 ~ N(mean, root rootᵀ), without a context.

    Attributes:
        mean: (d,).
        root: (d, d).
    """

    mean: Float[Tensor, "d"]
    root: Float[Tensor, "d d"]

    @classmethod
    def of(
        cls, mean: Array, covariance: Array, dtype: torch.dtype, device: torch.device | str
    ) -> "GaussianInitialLaw":
        """From a mean (d,) and a covariance (d, d) that may be singular."""
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(values.clip(0.0))
        return cls(*(torch.tensor(x, dtype=dtype, device=device) for x in (mean, root)))

    def __call__(self, batch: int, generator: torch.Generator) -> tuple[Tensor, None]:
        if not bool(self.root.any()):
            return self.mean[:, None].repeat(1, batch).mT, None
        noise = torch.empty(batch, len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        return self.mean + linear(self.root, noise.normal_(generator=generator)), None
