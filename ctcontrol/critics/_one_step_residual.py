"""The squared residual of one step, which is right only where the value has little curvature."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._along import martingale_along, residuals, values_along
from ctcontrol._tensor import inner
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._value import Value
from ctcontrol.critics._base import Critic


@dataclass(frozen=True, kw_only=True)
class OneStepResidualFit(Critic):
    """½ mean [V − gain − e^{−ρΔ} V′ + ⟨∇V, innovation⟩]², with gradients through all three V.

    Without the noise term this is the mean-square temporal-difference error, whose limit is the
    quadratic variation. With it, by the Itô–Taylor formula, a step leaves

        Δ · (∂V/∂t + b·∇V + ½tr(σσᵀ∇²V) − ρV + r) + ½[ΔWᵀσᵀ∇²Vσ ΔW − Δ tr(σᵀ∇²Vσ)],

    both of order Δ, so that on uniform grids the minimiser tends to that of

        E ∫₀ᵀ (rate of the martingale's drift)² + ½‖σᵀ∇²Vσ‖² dt,  Frobenius norm.

    Its bias *does not vanish* as Δ → 0: curvature is punished. It is zero where the true value
    is affine in the state, or where the family cannot trade curvature for drift. Its variance
    vanishes at the truth, which makes it tempting. Prefer `NoiseAwareFit`, which has neither the
    bias nor the second evaluation of V. (docs/theory, noise-aware evaluation.)
    """

    def targets(self, value: Value, trajectory: Trajectory) -> Tensor:
        """gain + e^{−ρΔ} V′ − ⟨∇V, innovation⟩ with the V before this fit."""
        v = values_along(value, trajectory)
        noise = martingale_along(value, trajectory, through_mean=False)
        return v[:-1] + residuals(v, trajectory) - noise

    def rows(self, value: Value, trajectory: Trajectory) -> Transitions:
        return trajectory.transitions(target=self.targets(value, trajectory), outcome=True)

    def loss(self, value: Value, rows: Transitions) -> Tensor:
        assert rows.outcome is not None
        after = rows.outcome
        x = rows.x.detach().requires_grad_()
        now = value.given(rows.notes).at(rows.t0, x, rows.context, rows.law.mean)
        (slope,) = torch.autograd.grad(now.sum(), x, create_graph=True, materialize_grads=True)
        guess = value.at(rows.t1, after.x, rows.context)
        later = torch.where(after.terminal.isnan(), guess, after.terminal)
        target = after.gain + after.shrink * later - inner(slope, after.innovation)
        return 0.5 * (now - target).square().mean()
