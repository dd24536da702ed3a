"""Value function and advantage rates of one policy, fitted together."""

from dataclasses import dataclass

from torch import Tensor

from ctcontrol._rated_value import RatedValue
from ctcontrol._trajectory import Transitions
from ctcontrol._value import Value
from ctcontrol.critics._temporal_difference import TemporalDifferenceFit


@dataclass(frozen=True, kw_only=True)
class SarsaFit(TemporalDifferenceFit):
    """Least squares of V_k + q_k(a_k)Δ on gain_k + e^{−ρΔ}V(t_{k+1}, X_{k+1}), held fixed.

    (V, q) with V(T, ·) = h and E_π q = 0 are value and advantage rate of π exactly if
    e^{−ρt}V + ∫e^{−ρu}(r − q)du is a martingale along π. With δ = target − V − qΔ the steps are
    θ ← θ + αE δ ∂V/∂θ and ψ ← ψ + αE δΔ ∂q/∂ψ: its increments against the test functions ∂V and
    ∂q (Jia and Zhou 2022, 2207.00713, SARSA-type; docs/theory, q-learning). Nothing is
    normalised, so q can be asked of any policy; improving is left to an algorithm that reads it
    through `LearnedAdvantage`. On policy: q is centred under the law that drew the actions.

    The part of δ that the action explains is ς|σ⁻¹β|√Δ of the part that is noise, so q takes
    many more paths than V, the more the finer the grid.

    The value is a `RatedValue`; any other has q = 0, which is `TemporalDifferenceFit`.
    """

    def loss(self, value: Value, rows: Transitions) -> Tensor:
        """½ mean (V + qΔ − target)²."""
        assert rows.target is not None
        guess = value.given(rows.notes).at(rows.t0, rows.x, rows.context, rows.law.mean)
        if isinstance(value, RatedValue):
            rate = value.rate(rows.t0, rows.x, rows.action, rows.context, rows.law)
            guess = guess + rate * (rows.t1 - rows.t0)
        return 0.5 * (guess - rows.target).square().mean()
