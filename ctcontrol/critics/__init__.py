"""Policy evaluation: what a value function is regressed on.

V is the value of the policy that made the rollout exactly if V(T, ·) = h and

    M_t = e^{−ρt} V(t, X_t) + ∫₀ᵗ e^{−ρu} (r du − w dA)

is a martingale (Jia and Zhou 2022, 2108.06655). On the grid dM_k = e^{−ρt_k} δ_k with the
temporal difference δ_k = e^{−ρΔ} V_{k+1} − V_k + gain_k.

| what | finds V that | bias | needs |
|---|---|---|---|
| `MonteCarloFit` | is nearest to the return to go (martingale loss) | none | nothing |
| `NoiseAwareFit` | the same, without the simulator's noise | none | ∇V, noise |
| `LambdaReturnFit` | TD(λ) targets, λ per unit of time | V's over 1/decay | V |
| `TemporalDifferenceFit` | E Σ ξ dM = 0, ξ = ∂V/∂θ: semi-gradient TD(0) | V's over a step | V |
| `SarsaFit` | the same for (V, q), ξ = ∂V/∂θ and ∂q/∂ψ | V's over a step | `RatedValue` |
| `LeastSquaresTD` | the same or TD(λ), solved, with error bars | none | `LinearValue` |
| `GeneralizedMoments` | E Σ ξ dM ≈ 0 for any test functions ξ | none | `LinearValue` |
| `OneStepResidualFit` | changes as its gradient says | *does not vanish* | ∇V, noise |

"None" is up to O(Δt) and for a value within the family. The first five and the last descend any
value function (`Critic`, given to `improve`); LSTD and the moments solve for a linear one. The mean
square of δ itself is not offered: minimized with gradients through both values it finds the value
of smallest quadratic variation, not the value of the policy (docs/theory, noise-aware evaluation).
"""

from ctcontrol.critics._base import Critic as Critic
from ctcontrol.critics._linear_value import LinearValue as LinearValue
from ctcontrol.critics._moments import GeneralizedMoments as GeneralizedMoments
from ctcontrol.critics._moments import LeastSquaresTD as LeastSquaresTD
from ctcontrol.critics._moments import LinearFit as LinearFit
from ctcontrol.critics._one_step_residual import OneStepResidualFit as OneStepResidualFit
from ctcontrol.critics._return import MonteCarloFit as MonteCarloFit
from ctcontrol.critics._return import NoiseAwareFit as NoiseAwareFit
from ctcontrol.critics._sarsa import SarsaFit as SarsaFit
from ctcontrol.critics._temporal_difference import LambdaReturnFit as LambdaReturnFit
from ctcontrol.critics._temporal_difference import TemporalDifferenceFit as TemporalDifferenceFit
from ctcontrol.critics._test_functions import EligibilityTrace as EligibilityTrace
from ctcontrol.critics._test_functions import ParameterGradient as ParameterGradient
from ctcontrol.critics._test_functions import StateFunctions as StateFunctions
from ctcontrol.critics._test_functions import TestFunction as TestFunction
