"""Gaussian mixtures, noised and tilted in closed form."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._tensor import like
from ctcontrol._typing import Scalar, State
from ctcontrol.exact.lq._arrays import Numbers, as_array, as_definite


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Σ w_i N(m_i, V_i), and its image under x ↦ αx + σε for a level (α, σ²) of noise per row.

    Attributes:
        log_weights: log w_i, (n,).
        means: (n, d).
        covariances: (n, d, d).
    """

    log_weights: Float[Tensor, "n"]
    means: Float[Tensor, "n d"]
    covariances: Float[Tensor, "n d d"]

    @classmethod
    def of(
        cls,
        weights: Numbers,
        means: Numbers,
        covariances: Numbers,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> "GaussianMixture":
        """From arrays: positive weights (n,), normalized here, means (n, d), covariances (n, d, d).

        Covariances of shape (n,) are multiples of the identity.

        Raises:
            CtcontrolError: shapes that do not fit, weights that are not positive, or a
                covariance that is not positive definite.
        """
        w, m = as_array("weights", weights), as_array("means", means)
        spread = as_array("covariances", covariances)
        if w.ndim != 1 or m.ndim != 2 or len(m) != len(w) or (w <= 0).any():
            raise CtcontrolError(
                "weights must be positive numbers (n,) and means a matrix (n, d), got shapes "
                f"{w.shape} and {m.shape} and weights {w.tolist()}"
            )
        n, d = m.shape
        if spread.shape == (n,):
            spread = spread[:, None, None] * np.eye(d)
        spread = as_array("covariances", spread, (n, d, d))
        definite = [as_definite(f"covariance {i}", matrix, d) for i, matrix in enumerate(spread)]

        def tensor(value: np.ndarray) -> Tensor:
            return torch.tensor(value, dtype=dtype, device=device)

        return cls(tensor(np.log(w / w.sum())), tensor(m), tensor(np.array(definite)))

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[1]

    @property
    def weights(self) -> Tensor:
        """w_i, (n,)."""
        return self.log_weights.exp()

    def mean(self) -> Tensor:
        """E X, (d,)."""
        return self.weights @ self.means

    def covariance(self) -> Tensor:
        """Cov X, (d, d)."""
        centered = self.means - self.mean()
        spread = self.covariances + centered[:, :, None] * centered[:, None, :]
        return torch.einsum("n,nij->ij", self.weights, spread)

    def log_prob(self, x: State, alpha: Scalar, variance: Scalar) -> Scalar:
        """log density of αX + σε at rows x (batch, d); alpha and variance are (batch,)."""
        log_joint, _ = self._components(x, alpha, variance)
        return log_joint.logsumexp(1)

    def score(self, x: State, alpha: Scalar, variance: Scalar) -> State:
        """Its gradient, (batch, d): −Σ γ_i(x) C_i⁻¹(x − αm_i), γ_i the posterior weights."""
        log_joint, pull = self._components(x, alpha, variance)
        return -torch.einsum("bn,bni->bi", log_joint.softmax(1), pull)

    def posterior(self, x: State, alpha: Scalar, variance: Scalar) -> tuple[Tensor, Tensor, Tensor]:
        """The law of X given αX + σε = x, a mixture a row, from the noised components' C_i:

        weights (batch, n), means m_i + αV_iC_i⁻¹(x − αm_i), (batch, n, d), and covariances
        σ²C_i⁻¹V_i, (batch, n, d, d).
        """
        log_joint, pull = self._components(x, alpha, variance)
        spread = like(alpha, x[:, None]) * torch.einsum(
            "nij,bnj->bni", self.covariances.to(x), pull
        )
        noised = self._noised_covariances(x, alpha, variance)
        inside = torch.linalg.solve(noised, self.covariances.to(x).expand_as(noised))
        return (
            log_joint.softmax(1),
            self.means.to(x) + spread,
            like(variance, noised) * inside,
        )

    def sample(self, batch: int, generator: torch.Generator) -> State:
        """`batch` draws, (batch, d)."""
        index = torch.multinomial(self.weights, batch, replacement=True, generator=generator)
        root = torch.linalg.cholesky(self.covariances)
        noise = torch.empty_like(self.means[index]).normal_(generator=generator)
        return self.means[index] + torch.einsum("bij,bj->bi", root[index], noise)

    def noised(self, alpha: float, variance: float) -> "GaussianMixture":
        """The law of αX + σε."""
        eye = torch.eye(self.dimension).to(self.means)
        return GaussianMixture(
            self.log_weights, alpha * self.means, alpha**2 * self.covariances + variance * eye
        )

    def tilted(self, linear: Tensor, quadratic: Tensor) -> tuple["GaussianMixture", Tensor]:
        """The law ∝ p(x) exp(hᵀx − ½xᵀKx), and the log of its normalizer Z.

        Each component stays Gaussian: V* = (V⁻¹ + K)⁻¹, m* = V*(V⁻¹m + h), and its weight gains
        E exp(·) = exp(½[m*ᵀV*⁻¹m* − mᵀV⁻¹m]) / √det(I + VK).

        Raises:
            CtcontrolError: Z is infinite.
        """
        precision = torch.linalg.inv(self.covariances)
        sharper = precision + quadratic
        if not bool((torch.linalg.eigvalsh(sharper) > 0).all()):
            raise unbearable()
        covariances = torch.linalg.inv(sharper)
        push = torch.einsum("nij,nj->ni", precision, self.means)
        means = torch.einsum("nij,nj->ni", covariances, push + linear)
        gain = ((push + linear) * means).sum(1) - (push * self.means).sum(1)
        gain = gain - torch.linalg.slogdet(self.covariances @ sharper).logabsdet
        log_joint = self.log_weights + 0.5 * gain
        log_normalizer = log_joint.logsumexp(0)
        return GaussianMixture(log_joint - log_normalizer, means, covariances), log_normalizer

    def _noised_covariances(self, x: State, alpha: Scalar, variance: Scalar) -> Tensor:
        """C_i = α²V_i + σ²I, (batch, n, d, d)."""
        spread = like(alpha**2, x[:, None, None]) * self.covariances.to(x)
        return spread + like(variance, spread) * torch.eye(self.dimension).to(x)

    @cached_property
    def _axes(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues (n, d) and eigenvectors (n, d, d) of V_i: noise turns none of them."""
        values, axes = torch.linalg.eigh(self.covariances)
        return values, axes

    def _components(self, x: State, alpha: Scalar, variance: Scalar) -> tuple[Tensor, Tensor]:
        """log w_i N(x; αm_i, C_i), (batch, n), and C_i⁻¹(x − αm_i), (batch, n, d)."""
        values, axes = (part.to(x) for part in self._axes)
        gap = x[:, None, :] - like(alpha, x[:, None]) * self.means.to(x)
        spread = like(alpha**2, gap) * values + like(variance, gap)
        turned = torch.einsum("nij,bni->bnj", axes, gap)
        pull = torch.einsum("nij,bnj->bni", axes, turned / spread)
        constant = self.dimension * math.log(2 * math.pi)
        log_density = -0.5 * ((turned**2 / spread + spread.log()).sum(-1) + constant)
        return self.log_weights.to(x) + log_density, pull


def unbearable() -> CtcontrolError:
    """The error of a reward that wins over every penalty far out."""
    return CtcontrolError(
        "the reward grows faster than the data's density falls, so the tilted law has no "
        "density; raise kl_weight, or make the quadratic cost larger"
    )
