"""Exact transitions of linear SDEs by block exponentials."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Transition:
    """X_h = decay X_0 + gain u + N(0, covariance) for dX = (AX + Cu)dt + σdW with u constant.

    Attributes:
        decay: F = e^{Ah}, (d, d).
        gain: G = ∫₀ʰ e^{As} ds C, (d, m).
        covariance: Γ = ∫₀ʰ e^{As} σσᵀ e^{Aᵀs} ds, (d, d).
    """

    decay: Array
    gain: Array
    covariance: Array


def transition(A: Array, C: Array, diffusion: Array, length: float) -> Transition:
    """The transition over `length` ≥ 0, to rounding (Van Loan 1978, theorem 1).

    The block exponential holds e^{−Ah} besides e^{Ah}, which costs digits over long steps; so a
    step is halved until |A|h ≤ 1 and put together again.

    Args:
        A: (d, d).
        C: (d, m).
        diffusion: σσᵀ, (d, d).
        length: h.
    """
    d, m = C.shape
    size = float(np.linalg.norm(A, 1)) * length
    halvings = max(0, math.ceil(math.log2(size))) if size > 0 else 0
    h = length / 2**halvings
    affine = expm(h * np.block([[A, C], [np.zeros((m, d + m))]]))
    decay, gain = affine[:d, :d], affine[:d, d:]
    block = expm(h * np.block([[-A, diffusion], [np.zeros((d, d)), A.T]]))
    covariance = decay @ block[:d, d:]
    for _ in range(halvings):
        covariance = covariance + decay @ covariance @ decay.T
        decay, gain = decay @ decay, gain + decay @ gain
    return Transition(decay, gain, 0.5 * (covariance + covariance.T))
