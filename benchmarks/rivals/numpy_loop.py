"""What one writes in NumPy without a library."""

import math

import numpy as np

from benchmarks.cases import Case, Numbers, Rollout, Run
from benchmarks.models import Backend, dynamics


def prepare(case: Case) -> Run:
    """x ← x + b h + σ√h ξ with ξ from `default_rng`, step by step."""
    dtype = np.float32 if case.dtype == "float32" else np.float64
    backend = Backend(lambda a: a.astype(dtype), np.tanh, _softmax, np.log)
    act, drift, variance = dynamics(case.model, backend)
    h, d = case.step, case.model.dimension

    def run(seed: int) -> Rollout:
        rng = np.random.default_rng(seed)
        if case.start is None:
            x = rng.standard_normal((case.batch, d), dtype)
        else:
            x = np.tile(case.start.astype(dtype), (case.batch, 1))
        total = np.zeros(case.batch, dtype)
        for k in range(case.steps):
            t = k * h
            a = act(t, x)
            if case.cost:
                total = total - ((x * x).sum(1) + (a * a).sum(1)) * h
            noise = rng.standard_normal(x.shape, dtype)
            x = x + drift(t, x, a) * h + math.sqrt(variance(t) * h) * noise
        if case.cost:
            total = total - (x * x).sum(1)
        return Rollout(x, total if case.cost else None)

    return run


def _softmax(x: Numbers) -> Numbers:
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)
