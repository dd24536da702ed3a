"""Brownian increments from normals in order of importance."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

Times = tuple[float, ...]
"""Increasing, from 0."""
Normals = Callable[[int], Tensor]
"""The normals of one rank, (noises, paths), float64; rank 0 matters most."""


def bridge(times: Times, normals: Normals) -> Iterator[Tensor]:
    """ΔW of every interval in turn, (noises, paths): the end first, then between known nodes.

    W(m) given W(l) and W(r) is N(aW(l) + bW(r), c²) with a = (t_r − t_m)/(t_r − t_l), b = 1 − a,
    c² = (t_m − t_l)(t_r − t_m)/(t_r − t_l). Nodes with a larger c get the more important normals.
    Only about log₂ N nodes are in memory at a time.
    """
    steps = len(times) - 1
    rank = _ranks(times)
    left, known = 0, [steps]
    end = normals(0).mul_(math.sqrt(times[-1]))
    path = {0: torch.zeros_like(end), steps: end}
    while known:
        while known[-1] - left > 1:
            right = known[-1]
            middle = (left + right) // 2
            a, c = _bridge(times, left, middle, right)
            between = normals(rank[middle]).mul_(c)
            between.add_(path[left], alpha=a).add_(path[right], alpha=1 - a)
            path[middle] = between
            known.append(middle)
        right = known.pop()
        yield path[right] - path.pop(left)
        left = right


def _bridge(times: Times, left: int, middle: int, right: int) -> tuple[float, float]:
    before, behind = times[middle] - times[left], times[right] - times[middle]
    return behind / (before + behind), math.sqrt(before * behind / (before + behind))


@lru_cache(maxsize=8)
def _ranks(times: Times) -> dict[int, int]:
    """Node -> rank of its normal."""
    spreads = {len(times) - 1: math.inf}
    gaps = [(0, len(times) - 1)]
    for left, right in gaps:  # grows while it is read: breadth first
        if right - left > 1:
            middle = (left + right) // 2
            spreads[middle] = _bridge(times, left, middle, right)[1]
            gaps += [(left, middle), (middle, right)]
    ordered = sorted(spreads, key=lambda node: -round(spreads[node] / times[-1] ** 0.5, 9))
    return {node: rank for rank, node in enumerate(ordered)}


def principal_components(times: Times, normals: Normals) -> Iterator[Tensor]:
    """ΔW of every interval in turn, (noises, paths), from the eigenvectors of min(t_i, t_j)."""
    steps = len(times) - 1
    z = torch.stack([normals(index) for index in range(steps)])
    loadings = torch.from_numpy(_loadings(times)).to(z.device)
    yield from torch.tensordot(loadings, z, 1).unbind()


@lru_cache(maxsize=8)
def _loadings(times: Times) -> np.ndarray:
    """A with ΔW = A z: increments of the eigenvectors times √eigenvalue, largest first."""
    t = np.array(times[1:])
    values, vectors = np.linalg.eigh(np.minimum.outer(t, t))
    scaled = (vectors * np.sqrt(values))[:, ::-1]
    return np.ascontiguousarray(np.diff(scaled, axis=0, prepend=0.0))
