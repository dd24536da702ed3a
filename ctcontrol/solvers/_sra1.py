"""Strong order 1.5 for additive noise."""

import math
from dataclasses import dataclass

import torch

from ctcontrol._sde import AdditiveNoiseSDE, ControlledSDE, of_kind
from ctcontrol._tensor import span
from ctcontrol._typing import Action, Context, Noise, State, Time
from ctcontrol.solvers._base import Scheme
from ctcontrol.solvers._heun import ADDITIVE


@dataclass(frozen=True)
class SRA1(Scheme):
    """X' = x + [⅓b(t0, x) + ⅔b(t0 + ¾Δ, x̃)]Δ + σ(t1)ΔW + [σ(t0) − σ(t1)]ΔZ/Δ,

    x̃ = x + ¾b(t0, x)Δ + (3/2)σ(t1)ΔZ/Δ. Rößler's stochastic Runge–Kutta scheme SRA1 for additive
    noise (2010, SIAM J. Numer. Anal. 48, 922–952): strong order 1.5, weak order 2, with two
    drifts a step. ΔZ = ∫(W_s − W_{t0})ds is correlated with ΔW: given ΔW it is
    N(½ΔΔW, Δ³/12).

    A step takes two normals, `dw[:, 0]` = ΔW and `dw[:, 1]` = U ~ N(0, Δ) independent of it, and
    ΔZ = ½Δ(ΔW + U/√3); on a given path U = √12·H with H the space-time Lévy area
    (1/Δ)∫(W_s − W_{t0} − ((s − t0)/Δ)ΔW)ds. The action is held: see `Heun`.

    Raises:
        CtcontrolError: at a step, dynamics that are not an `AdditiveNoiseSDE`.
    """

    def noise_like(self, sde: ControlledSDE, t0: Time, x: State, a: Action) -> Noise:
        one = super().noise_like(sde, t0, x, a)
        return one.new_empty(len(one), 2, *one.shape[1:])

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
        of_kind(sde, AdditiveNoiseSDE, "SRA1", ADDITIVE)
        dt, increment = span(t0, t1, x), dw[:, 0]
        area = torch.add(increment, dw[:, 1], alpha=1 / math.sqrt(3)) * 0.5  # ΔZ/Δ
        slope, after = sde.drift(t0, x, a, context), sde.volatility(t1, x, a)
        guess = torch.addcmul(x, slope, 0.75 * dt).add(after.mul(area), alpha=1.5)
        later = sde.drift(torch.lerp(t0, t1, 0.75), guess, a, context)
        noise = after.mul(increment - area) + sde.volatility(t0, x, a).mul(area)
        return torch.addcmul(x, slope + 2 * later, dt / 3) + noise
