"""Heun's scheme for additive noise."""

from dataclasses import dataclass

import torch

from ctcontrol._sde import AdditiveNoiseSDE, ControlledSDE, of_kind
from ctcontrol._tensor import span
from ctcontrol._typing import Action, Context, Noise, State, Time
from ctcontrol.solvers._base import Scheme

ADDITIVE = (
    "with a volatility that depends on the state it converges to another equation; use "
    "EulerMaruyama(), or derive the dynamics from AdditiveNoiseSDE if σ depends on time alone"
)
"""The remedy where the noise must be additive."""


@dataclass(frozen=True)
class Heun(Scheme):
    """X' = x + ½[b(t0, x) + b(t1, x̃)]Δ + ½[σ(t0) + σ(t1)]ΔW,  x̃ = x + b(t0, x)Δ + σ(t0)ΔW.

    For additive noise: strong order 1, weak order 2, with two drifts a step (Kloeden and Platen
    1992, 15.1). The action is held over the step, so order 2 is that of the dynamics *with held
    actions*; under feedback the held action alone leaves an error of order 1. `closed_loop` puts
    the feedback into the drift, where each stage sees it.

    Raises:
        CtcontrolError: at a step, dynamics that are not an `AdditiveNoiseSDE`.
    """

    def step(
        self,
        sde: ControlledSDE,
        t0: Time,
        t1: Time,
        x: State,
        a: Action,
        dw: Noise,
        context: Context,
    ) -> State:
        of_kind(sde, AdditiveNoiseSDE, "Heun", ADDITIVE)
        dt, slope = span(t0, t1, x), sde.drift(t0, x, a, context)
        before = sde.volatility(t0, x, a).mul(dw)
        guess = torch.addcmul(x, slope, dt) + before
        slope = slope + sde.drift(t1, guess, a, context)
        noise = torch.lerp(before, sde.volatility(t1, guess, a).mul(dw), 0.5)
        return torch.addcmul(x, slope, 0.5 * dt) + noise
