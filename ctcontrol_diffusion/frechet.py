"""The Fréchet distance between two clouds of features, with an error bar."""

import numpy as np
import torch
from torch import Tensor

from ctcontrol import CtcontrolError


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """|m_a − m_b|² + tr(C_a + C_b − 2 (C_a C_b)^{1/2}), the squared W₂ of the fitted Gaussians.

    Args:
        a: (n, k) features of one set.
        b: (m, k) features of the other.

    Raises:
        CtcontrolError: fewer than two samples in a set, or different numbers of features.
    """
    _check(a, b)
    return _between(_moments(a), _moments(b))


def _between(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> float:
    (mean_a, cov_a), (mean_b, cov_b) = a, b
    # by eigenvectors: images that are all alike leave no Cholesky factor
    size, axes = np.linalg.eigh(cov_a)
    root = axes * np.sqrt(size.clip(min=0))
    cross = np.linalg.eigvalsh(root.T @ cov_b @ root).clip(min=0)
    gap = float(((mean_a - mean_b) ** 2).sum())
    return gap + float(np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(cross).sum())


def frechet_error(a: Tensor, b: Tensor, *, resamples: int = 20) -> float:
    """Standard error of `frechet_distance` over the choice of `a`, by the jackknife on blocks.

    Raises:
        CtcontrolError: as `frechet_distance`, and for two samples, of which none can be left out.
    """
    blocks = min(resamples, len(a))
    # shuffled: rows often come ordered by class, and a block must look like the whole
    shuffled = torch.randperm(len(a), generator=torch.Generator().manual_seed(0))
    order = shuffled % blocks
    _check(a[order != 0], b)
    there = _moments(b)
    left_out = np.array([_between(_moments(a[order != k]), there) for k in range(blocks)])
    return float(np.sqrt((blocks - 1) / blocks * ((left_out - left_out.mean()) ** 2).sum()))


def _check(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise CtcontrolError(
            "a Fréchet distance needs two sets of at least 2 feature rows of equal length, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )


def _moments(x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    values = x.detach().cpu().double().numpy()
    return values.mean(0), np.atleast_2d(np.cov(values, rowvar=False))
