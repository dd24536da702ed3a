"""Policy evaluation: what a value function is regressed on.

V is the value of the policy that made the rollout exactly if V(T, ·) = h and

    M_t = e^{−ρt} V(t, X_t) + ∫₀ᵗ e^{−ρu} (r du − w dA)

is a martingale (Jia and Zhou 2022, 2108.06655). On the grid dM_k = e^{−ρt_k} δ_k with the
temporal difference δ_k = e^{−ρΔ} V_{k+1} − V_k + gain_k.

| what | finds V that | bias | needs |
|---|---|---|---|
| `MonteCarloFit` | is nearest to the return to go (martingale loss) | none | nothing |
| `NoiseAwareFit` | the same, without the simulator's noise | none | ∇V, recorded noise |
| `LambdaReturnFit` | TD(λ) targets, λ per unit of time | of V within 1/decay | V |
| `TemporalDifferenceFit` | E[ξ dM] = 0 with ξ = ∂V/∂θ: semi-gradient TD(0) | of the family | V |

The mean square of δ itself is not offered: minimized with gradients through both values it finds
the value of smallest quadratic variation, not the value of the policy (docs/theory, noise-aware
evaluation).
"""

from ctcontrol.critics._base import Critic as Critic
from ctcontrol.critics._return import MonteCarloFit as MonteCarloFit
from ctcontrol.critics._return import NoiseAwareFit as NoiseAwareFit
from ctcontrol.critics._temporal_difference import LambdaReturnFit as LambdaReturnFit
from ctcontrol.critics._temporal_difference import TemporalDifferenceFit as TemporalDifferenceFit
