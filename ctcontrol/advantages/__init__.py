"""Advantage rates: how much better than average the drawn action was, per unit of time.

How to choose an estimator. All scale with the exploration ς: the weight of a log-likelihood
gradient is the rate times (a − μ)/ς².

| estimator | bias when V is wrong | variance of the rate, V exact | cost a step | needs |
|---|---|---|---|---|
| `NoiseAwareAdvantage` | none | ∝ 1/Δt | V, ∇V | the recorded noise |
| `MonteCarloAdvantage` | none | ∝ 1/Δt², times the return's | V, or nothing | nothing |
| `GeneralizedAdvantage` | V's, over times 1/decay | ∝ 1/Δt², times 1/decay | V | V |
| `TemporalDifferenceAdvantage` | V's, from step to step | ∝ 1/Δt | V | V |
| `ActionAdvantage` | ∇V's | that of the action | ∇V | uncontrolled volatility |
| `CenteredAdvantage` | ∇V's | that of the action | ∇V | the same; m ≤ 64 coordinates |
| `LearnedAdvantage` | q's | that of the action | q | `SarsaFit`, many paths |
| `ItoAdvantage` | V's and its derivatives' | that of the action | ∂V/∂t, ∇V, ∇²V | vector states |

The variance of `NoiseAwareAdvantage` with a wrong V is that of Monte Carlo with |∇V − ∇V_true|²
in place of |∇V_true|². With an exact V all but `ActionAdvantage` average to zero over the
policy's actions, up to O(Δt); `ActionAdvantage` leaves out a term that no action changes,
harmless in gradients and wrong in performance differences.

*   A critic that is learned, noise that the simulator made itself: `NoiseAwareAdvantage`. It is
    unbiased whatever V is, and the better V the less it varies.
*   No critic: `MonteCarloAdvantage`.
*   No gradient of V at hand: `GeneralizedAdvantage`, whose decay trades bias for variance.
*   V known or very good, exploration small: the closed forms. Their variance does not grow as
    Δt → 0, nor as the exploration shrinks.

All are called as `estimator(problem, solver, value, trajectory)` and return (steps, batch),
without gradients. (docs/theory, advantage rate.)
"""

from ctcontrol.advantages._base import AdvantageEstimator as AdvantageEstimator
from ctcontrol.advantages._closed_form import ActionAdvantage as ActionAdvantage
from ctcontrol.advantages._closed_form import CenteredAdvantage as CenteredAdvantage
from ctcontrol.advantages._ito import ItoAdvantage as ItoAdvantage
from ctcontrol.advantages._learned import LearnedAdvantage as LearnedAdvantage
from ctcontrol.advantages._return import MonteCarloAdvantage as MonteCarloAdvantage
from ctcontrol.advantages._return import NoiseAwareAdvantage as NoiseAwareAdvantage
from ctcontrol.advantages._temporal_difference import GeneralizedAdvantage as GeneralizedAdvantage
from ctcontrol.advantages._temporal_difference import (
    TemporalDifferenceAdvantage as TemporalDifferenceAdvantage,
)
