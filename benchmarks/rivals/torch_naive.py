"""What one writes in torch without a library."""

import math

import torch

from benchmarks.cases import Case, Rollout, Run
from benchmarks.rivals._torch import first, torch_dynamics


def prepare(case: Case) -> Run:
    """x ← x + b h + σ√h randn_like(x), step by step."""
    act, drift, variance = torch_dynamics(case)
    h = case.step

    @torch.no_grad()
    def run(seed: int) -> Rollout:
        torch.manual_seed(seed)
        x = first(case)
        total = torch.zeros_like(x[:, 0])
        for k in range(case.steps):
            t = k * h
            a = act(t, x)
            if case.cost:
                total = total - ((x * x).sum(1) + (a * a).sum(1)) * h
            noise = torch.randn_like(x)
            x = x + drift(t, x, a) * h + math.sqrt(variance(t) * h) * noise
        if case.cost:
            total = total - (x * x).sum(1)
        return Rollout(x.numpy(), total.numpy() if case.cost else None)

    return run
