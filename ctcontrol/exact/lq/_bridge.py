"""The cost of a step of a linear SDE, given where it began and ended."""

import math
from dataclasses import dataclass

import numpy as np

from ctcontrol.exact.lq._arrays import Array
from ctcontrol.solvers._van_loan import Transition, transition

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(10)  # to rounding where (|A| + ρ)h ≤ 1


@dataclass(frozen=True, eq=False)
class LinearCost:
    """dX = (AX + f)dt + σdW with the cost rate (x, 1)ᵀ cost (x, 1), discounted at rate ρ.

    Attributes:
        A: (d, d).
        f: (d,).
        diffusion: σσᵀ, (d, d).
        cost: (d + 1, d + 1), symmetric, per unit of time.
        discount: ρ.
    """

    A: Array
    f: Array
    diffusion: Array
    cost: Array
    discount: float

    def transition(self, length: float) -> Transition:
        """X over `length`; its gain is the drift of the offset, (d, 1)."""
        return transition(self.A, self.f[:, None], self.diffusion, length)

    def step(self, length: float) -> tuple[Array, Array]:
        """E[∫₀ʰ e^{−ρs} cost ds | X_0, X_h] and E[… | X_0] as quadratic forms.

        The first in (x, x', 1), (2d + 1, 2d + 1), by integration along the Gaussian bridge; the
        second in (x, 1), (d + 1, d + 1), by its expectation over X_h. Long steps are put together
        from halves, between which the bridge is averaged.
        """
        d, size = len(self.A), float(np.linalg.norm(self.A, 1) + self.discount) * length
        halvings = max(0, math.ceil(math.log2(size))) if size > 0 else 0
        h = length / 2**halvings
        whole = self.transition(h)
        form = self._short(h, whole)
        for _ in range(halvings):
            half, h = whole, 2 * h
            whole, decay = self.transition(h), math.exp(-self.discount * h / 2)
            middle, covariance = _between(half, half, whole)
            eye = np.eye(2 * d + 1)
            first = np.vstack([eye[:d], middle])
            second = np.vstack([middle[:d], eye[d:]])
            ends = form[d : 2 * d, d : 2 * d] + decay * form[:d, :d]
            form = first.T @ form @ first + decay * second.T @ form @ second
            form[-1, -1] += (ends * covariance).sum()
        after = np.hstack([whole.decay, whole.gain])
        eye = np.eye(d + 1)
        joined = np.vstack([eye[:d], after, eye[d:]])
        start = joined.T @ form @ joined
        start[-1, -1] += (form[d : 2 * d, d : 2 * d] * whole.covariance).sum()
        return form, start

    def _short(self, h: float, whole: Transition) -> Array:
        """The form over a step with (|A| + ρ)h ≤ 1, by Gauss's quadrature along the bridge."""
        d = len(self.A)
        form = np.zeros((2 * d + 1, 2 * d + 1))
        for node, weight in zip(_NODES, _WEIGHTS, strict=True):
            s = 0.5 * h * (1 + float(node))
            middle, covariance = _between(self.transition(s), self.transition(h - s), whole)
            part = middle.T @ self.cost @ middle
            part[-1, -1] += (self.cost[:d, :d] * covariance).sum()
            form += 0.5 * h * float(weight) * math.exp(-self.discount * s) * part
        return form


def _between(first: Transition, second: Transition, whole: Transition) -> tuple[Array, Array]:
    """The law of Y between X and X': (Y, 1) = M (X, X', 1) + N(0, C); M (d + 1, 2d + 1) and C.

    Y − E[Y | X] = G (X' − E[X' | X]) + noise with G = Γ_s F_{h−s}ᵀ Γ_h⁺ (Gaussian bridge).
    """
    d = len(first.decay)
    cross = first.covariance @ second.decay.T
    gain = cross @ np.linalg.pinv(whole.covariance, rcond=1e-14, hermitian=True)
    M = np.zeros((d + 1, 2 * d + 1))
    M[:d] = np.hstack([first.decay - gain @ whole.decay, gain, first.gain - gain @ whole.gain])
    M[d, -1] = 1.0
    return M, first.covariance - gain @ cross.T
