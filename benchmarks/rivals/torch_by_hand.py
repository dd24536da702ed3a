"""The loop of one who knows this problem and all the tricks of `simulate`.

Dynamics and feedback folded into one matrix, states in columns, in place, preallocated noise, tiles
of 8192 paths on a pool of threads, one generator a tile, double precision from NumPy's SFC64. What
`simulate` costs beside it is the price of being general.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from benchmarks.cases import Case, Rollout, Run
from benchmarks.models import Linear
from benchmarks.rivals._torch import dtype_of, first, torch_dynamics

TILE = 8192
Tile = Callable[[int, int], tuple[Tensor, Tensor]]
"""(seed, paths) -> final states and returns."""
Normals = Callable[[Tensor, float], float]
"""Fills a buffer with normals, and says by what they still have to be scaled to have this std."""


def prepare(case: Case) -> Run:
    """The loop for the model of the case."""
    model = case.model
    linear = isinstance(model, Linear) and not model.layers
    tile = _folded(case) if linear else _general(case)
    whole = case.batch <= 2 * TILE
    edges = [0, case.batch] if whole else [*range(0, case.batch, TILE), case.batch]
    sizes = [end - begin for begin, end in pairwise(edges)]

    def run(seed: int) -> Rollout:
        threads = torch.get_num_threads()
        seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(len(sizes))]
        if threads == 1 or whole:
            parts = [tile(*some) for some in zip(seeds, sizes, strict=True)]
        else:
            with ThreadPoolExecutor(threads, "", torch.set_num_threads, (1,)) as pool:
                parts = list(pool.map(tile, seeds, sizes))
            torch.set_num_threads(threads)
        x, total = (torch.cat(part) for part in zip(*parts, strict=True))
        return Rollout(x.numpy(), total.numpy() if case.cost else None)

    return run


def _folded(case: Case) -> Tile:
    """x ← Mx + sξ with M = I + h(A − BK)."""
    model = case.model
    assert isinstance(model, Linear)
    h, d, dtype = case.step, model.dimension, dtype_of(case)
    flow = np.eye(d) + h * (model.A - model.B @ model.K)
    M, K = (torch.tensor(m, dtype=dtype) for m in (flow, model.K))
    scale, factor = model.volatility * math.sqrt(h), float(flow[0, 0])

    @torch.inference_mode()
    def tile(seed: int, rows: int) -> tuple[Tensor, Tensor]:
        normal, _ = _normals(case, seed)
        x = torch.tensor(model.start, dtype=dtype)[:, None].repeat(1, rows)
        noise, total = torch.empty_like(x), torch.zeros(rows, dtype=dtype)
        for _ in range(case.steps):
            if case.cost:
                total.sub_(x.square().sum(0), alpha=h).sub_((K @ x).square().sum(0), alpha=h)
            rest = normal(noise, scale)
            if d > 1:
                x, noise = noise.addmm_(M, x, beta=rest), x
            elif rest == 1:
                x, noise = noise.add_(x, alpha=factor), x
            else:
                x.mul_(factor).add_(noise, alpha=rest)
        return x.mT, total.sub_(x.square().sum(0)) if case.cost else total

    return tile


def _general(case: Case) -> Tile:
    """x ← x + bh + σ√hξ, in place."""
    act, drift, variance = torch_dynamics(case)
    h = case.step

    @torch.inference_mode()
    def tile(seed: int, rows: int) -> tuple[Tensor, Tensor]:
        normal, generator = _normals(case, seed)
        x = first(case, generator, rows)
        noise = torch.empty_like(x)
        for k in range(case.steps):
            t = k * h
            x.add_(drift(t, x, act(t, x)), alpha=h)
            rest = normal(noise, math.sqrt(variance(t) * h))
            x.add_(noise, alpha=rest)
        return x, x[:, 0]

    return tile


def _normals(case: Case, seed: int) -> tuple[Normals, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.Generator(np.random.SFC64(seed))

    def single(out: Tensor, std: float) -> float:
        out.normal_(0.0, std, generator=generator)
        return 1.0

    def double(out: Tensor, std: float) -> float:
        rng.standard_normal(out=out.numpy())
        return std

    return single if case.dtype == "float32" else double, generator
