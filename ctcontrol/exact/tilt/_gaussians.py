"""Distances between Gaussian laws, given as (mean, covariance)."""

import numpy as np

from ctcontrol.exact.lq._arrays import Array

GaussianLaw = tuple[Array, Array]
"""Mean (d,) and covariance (d, d)."""


def gaussian_kl(first: GaussianLaw, second: GaussianLaw) -> float:
    """KL(first ‖ second) = ½[tr(C₂⁻¹C₁) − d + |m₁ − m₂|²_{C₂⁻¹} + log det C₂ − log det C₁], nats.

    Infinite where the first covariance is singular and the second is not.
    """
    (m1, C1), (m2, C2) = first, second
    shift = m1 - m2
    logdets = np.linalg.slogdet(C2)[1] - np.linalg.slogdet(C1)[1]
    inverse = np.linalg.inv(C2)
    return 0.5 * float((inverse * C1).sum() - len(m1) + shift @ inverse @ shift + logdets)


def gaussian_w2(first: GaussianLaw, second: GaussianLaw) -> float:
    """The Wasserstein distance W₂, in units of the state:

    W₂² = |m₁ − m₂|² + tr(C₁ + C₂ − 2(C₁^½ C₂ C₁^½)^½). (Gelbrich 1990.)
    """
    (m1, C1), (m2, C2) = first, second
    sizes, axes = np.linalg.eigh(C1)
    root = axes * np.sqrt(sizes.clip(0.0))
    cross = np.sqrt(np.linalg.eigvalsh(root.T @ C2 @ root).clip(0.0)).sum()
    square = ((m1 - m2) ** 2).sum() + np.trace(C1) + np.trace(C2) - 2 * cross
    return float(np.sqrt(max(square, 0.0)))
