"""The noise coefficient σ as a small linear operator: structure is a type, not a flag."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._tensor import inner, like, linear, shared
from ctcontrol._typing import Noise, Scalar, State


class Volatility(ABC):
    """σ of dX = b dt + σ dW, one operator a row."""

    @abstractmethod
    def mul(self, noise: Noise) -> State:
        """σ w."""

    @abstractmethod
    def whiten(self, v: State) -> Noise:
        """σ⁻¹ v; raises `CtcontrolError` where σ is singular."""

    @abstractmethod
    def trace(self, hessian: Float[Tensor, "batch d d"]) -> Scalar:
        """tr(σσᵀ H) for states that are vectors."""

    def noise_like(self, x: State) -> Noise:
        """An empty buffer for dW at the states `x`; as many noises as states by default."""
        return torch.empty_like(x)

    def sq_norm_inv(self, v: State) -> Scalar:
        """|σ⁻¹ v|²: every Girsanov and path-KL formula."""
        white = self.whiten(v)
        return inner(white, white)


def _no_inverse() -> CtcontrolError:
    return CtcontrolError(
        "the volatility is zero or singular, and likelihood ratios and path KL need its inverse; "
        "use a positive volatility (for DDIM: eta > 0)"
    )


@dataclass(frozen=True, eq=False)
class ScalarVolatility(Volatility):
    """σ = value · I with value (batch,)."""

    value: Scalar

    def mul(self, noise: Noise) -> State:
        return noise * (self.value[0] if shared(self.value) else like(self.value, noise))

    def whiten(self, v: State) -> Noise:
        if not bool((self.value != 0).all()):
            raise _no_inverse()
        return v / like(self.value, v)

    def trace(self, hessian: Float[Tensor, "batch d d"]) -> Scalar:
        return self.value**2 * hessian.diagonal(dim1=-2, dim2=-1).sum(-1)


@dataclass(frozen=True, eq=False)
class DiagonalVolatility(Volatility):
    """σ = diag(value) with value (batch, *state)."""

    value: State

    def mul(self, noise: Noise) -> State:
        return self.value * noise

    def whiten(self, v: State) -> Noise:
        if not bool((self.value != 0).all()):
            raise _no_inverse()
        return v / self.value

    def trace(self, hessian: Float[Tensor, "batch d d"]) -> Scalar:
        return (self.value**2 * hessian.diagonal(dim1=-2, dim2=-1)).sum(-1)


@dataclass(frozen=True, eq=False)
class DenseVolatility(Volatility):
    """σ = value for vector states: one matrix (d, k) for all rows, or (batch, d, k)."""

    value: Float[Tensor, "*batch d k"]

    def noise_like(self, x: State) -> Noise:
        return x.new_empty(self.value.shape[-1], len(x)).mT  # as the product that follows likes it

    def mul(self, noise: Noise) -> State:
        if self.value.ndim == 2:
            return linear(self.value, noise)
        return torch.einsum("...dk,...k->...d", self.value, noise)

    def whiten(self, v: State) -> Noise:
        """The least-norm w with σ w = v: |w|² = vᵀ(σσᵀ)⁻¹v, also for more noises than states."""
        d, k = self.value.shape[-2:]
        u, stretch, w = torch.linalg.svd(self.value, full_matrices=False)
        rounding = max(d, k) * torch.finfo(v.dtype).eps
        if k < d or not bool((stretch[..., -1] > rounding * stretch[..., 0]).all()):
            raise _no_inverse()
        scaled = torch.einsum("...dk,...d->...k", u, v) / stretch
        return torch.einsum("...kj,...k->...j", w, scaled)

    def trace(self, hessian: Float[Tensor, "batch d d"]) -> Scalar:
        return torch.einsum("...ik,...ij,...jk->...", self.value, hessian, self.value)
