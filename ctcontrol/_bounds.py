"""Lower bounds of improvement with explicit constants: what trust regions stand on.

For a volatility free of state and action and q the advantage rate of π, with A_t(x) = E_{π′}[q],

    |J(π′) − L^π(π′)| ≤ ∫₀ᵀ e^{−ρt} ‖A_t‖_∞ √(2 K_t) dt,   K_t = KL(P′ ‖ P) of the paths up to t,

because only the law of X_t is wrong in L, |∫(p′_t − p_t)A| ≤ 2‖A‖_∞ TV, and TV ≤ √(K_t/2) (Pinsker,
data processing). With k ≥ ½|σ⁻¹(b(μ′) − b(μ))|² everywhere, nats per unit of time, K_t ≤ kt, and
with I(ρ, T) = ∫₀ᵀ e^{−ρt}√t dt = ρ^{−3/2} γ(3/2, ρT) the bounds below follow. (docs/theory,
surrogate.)
"""

import math
from dataclasses import dataclass
from typing import Self

from scipy.special import gamma, gammainc

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol._estimate import Estimate
from ctcontrol._girsanov import kl_rates
from ctcontrol._performance import surrogate_rates
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._trajectory import Trajectory
from ctcontrol._value import Value
from ctcontrol.solvers import Solver


@dataclass(frozen=True)
class SurrogateBound:
    """|J(π′) − L^π(π′)| ≤ c₁ k^{1/2} + c₂ k + c₃ k^{3/2}, k the largest KL rate, nats per time.

    Made by `root` or `linear`. The penalty is on the KL *rate of the paths*. For Gaussian
    policies of the same std ς under dX = (… + γa)dt + σdW it is that of the actions,
    KL(π′ ‖ π) = |μ′ − μ|²/(2ς²), times (γς/σ)².

    Attributes:
        coefficients: (c₁, c₂, c₃), in units of reward.
    """

    coefficients: tuple[float, float, float]

    @classmethod
    def root(cls, advantage: float, *, discount: float = 0.0, horizon: float = math.inf) -> Self:
        """√KL: c₁ = √2 ‖A‖_∞ I(ρ, T); without horizon I = (√π/2) ρ^{−3/2}.

        The general bound, for an A that is bounded and known by its size alone (Zhao, Tang, Yao
        2023, 2305.18901, with the constant made explicit).

        Args:
            advantage: ‖A‖_∞, reward per unit of time.
            discount: ρ ≥ 0, per unit of time; > 0 without a horizon.
            horizon: T, or infinity.
        """
        factor = _root_time(discount, horizon)
        return cls((math.sqrt(2) * check_nonnegative("advantage", advantage) * factor, 0.0, 0.0))

    @classmethod
    def linear(
        cls,
        sensitivity: float,
        *,
        discount: float = 0.0,
        horizon: float = math.inf,
        curvature: float = 0.0,
    ) -> Self:
        """Linear in KL: c₂ = 2Λ I(ρ, T), c₃ = √2 c I(ρ, T).

        Where A itself is small with the change of the drift, |A| ≤ Λ√(2k) + c k, as it is when
        drift and penalty see the mean action only: then no square root is left.

        Args:
            sensitivity: Λ = sup |σᵀ∇V − κσ⁻¹(b(μ) − b(μ_ref))|, reward per square root of time.
            discount: ρ ≥ 0, per unit of time; > 0 without a horizon.
            horizon: T, or infinity.
            curvature: c, the weight κ of a path-KL penalty; 0 without one.
        """
        factor = _root_time(discount, horizon)
        slope = 2 * check_nonnegative("sensitivity", sensitivity) * factor
        bend = math.sqrt(2) * check_nonnegative("curvature", curvature) * factor
        return cls((0.0, slope, bend))

    def error(self, kl_rate: float) -> float:
        """The bound of |J(π′) − L^π(π′)|, in units of reward."""
        k = check_nonnegative("kl_rate", kl_rate)
        first, second, third = self.coefficients
        return first * k**0.5 + second * k + third * k**1.5

    def lower(self, gain: Estimate, kl_rate: float) -> Estimate:
        """J(π′) − J(π) is at least this: the gain of the surrogate less the bound.

        The gain is that of `surrogate` (TRPO) or of `clipped_surrogate` (PPO). A policy that makes
        it positive is better for sure, up to the error bar.
        """
        return Estimate(gain.mean - self.error(kl_rate), gain.stderr, gain.n)


def measured_surrogate_error(
    problem: ControlProblem,
    value: Value,
    policy: Policy,
    trajectory: Trajectory,
    *,
    solver: Solver | None = None,
) -> float:
    """Σ_k e^{−ρt_k}Δ_k ‖A_k‖ √(2 Σ_{j≤k} ‖k_j‖ Δ_j), ‖·‖ the largest over the paths seen.

    The bound of the module resolved in time, from rollouts of π with π′ = `policy`: much tighter
    than one number for all times where the volatility varies. Not a proof, where A or the KL
    rate are unbounded. In units of reward.
    """
    rates = surrogate_rates(problem, value, policy, trajectory, solver=solver).abs().amax(1)
    kl = kl_rates(problem, policy, None, trajectory, solver=solver).amax(1)
    lengths = trajectory.lengths[:, 0]
    times = trajectory.grid.times[:-1].to(rates)
    spread = (2 * (kl * lengths).cumsum(0)).sqrt()
    return float(((-trajectory.discount * times).exp() * lengths * rates * spread).sum())


def _root_time(discount: float, horizon: float) -> float:
    """I(ρ, T) = ∫₀ᵀ e^{−ρt}√t dt."""
    check_nonnegative("discount", discount)
    if horizon != math.inf:
        check_positive("horizon", horizon)
    elif discount == 0:
        raise CtcontrolError(
            "a bound needs a finite horizon or a discount > 0, got horizon inf and discount 0; "
            "give one of them"
        )
    if discount == 0:
        return 2 / 3 * horizon**1.5
    share = 1.0 if math.isinf(horizon) else float(gammainc(1.5, discount * horizon))
    return share * float(gamma(1.5)) * discount**-1.5
