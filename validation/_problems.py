"""The problems that several theorems are held against."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ctcontrol.exact.lq import LinearGaussianLaw, LQProblem
from ctcontrol.exact.tilt import GaussianTilt, VariancePreserving


def seeded(seed: int) -> torch.Generator:
    """A fresh generator."""
    return torch.Generator().manual_seed(seed)


def gaussian_tilt() -> GaussianTilt:
    """Data N(0.7, 0.5) under β from 0.1 to 8, reward 1.3y − 0.4y², κ = 0.5."""
    return GaussianTilt(
        VariancePreserving(0.1, 8.0),
        mean=[0.7],
        covariance=0.5,
        linear=[1.3],
        quadratic=0.8,
        kl_weight=0.5,
    )


def correction(constant: float, slope: float) -> LinearGaussianLaw:
    """The affine correction of the score u = constant + slope·x."""
    return LinearGaussianLaw([[-slope]], [constant])


def two_states(**changes: float) -> LQProblem:
    """Two coupled states, one action, cross costs, correlated noise."""
    settings: dict[str, Any] = {
        "A": [[0.2, 0.7], [-0.5, -0.3]],
        "B": [[0.4], [1.0]],
        "Q": [[1.0, 0.2], [0.2, 0.6]],
        "R": [[0.5]],
        "S": [[0.1], [-0.2]],
        "G": [[0.7, 0.1], [0.1, 0.4]],
        "volatility": [[0.6, 0.0], [0.2, 0.5]],
        "horizon": 1.0,
        "initial_mean": [0.8, -0.5],
        "initial_covariance": 0.2,
        "discount": 0.3,
    }
    return LQProblem(**(settings | changes))


def two_state_law(covariance: float = 0.0, shift: float = 0.0) -> LinearGaussianLaw:
    """A stabilizing gain with an offset, not the optimal one; `shift` moves both."""
    return LinearGaussianLaw([[0.3 + shift, 0.9 - 0.5 * shift]], [0.2 + 0.7 * shift], covariance)


def central(function: Callable[[np.ndarray], float], at: np.ndarray, step: float) -> np.ndarray:
    """Its gradient by central differences of order four, entry by entry."""
    out = np.zeros_like(at, dtype=float)
    for index in np.ndindex(at.shape):
        move = np.zeros_like(out)
        move[index] = step
        one, two = (function(at + k * move) - function(at - k * move) for k in (1, 2))
        out[index] = (8 * one - two) / (12 * step)
    return out
