"""Fine-tuning a deterministic sampler of Gaussian data, where path KL is infinite."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ctcontrol._problem import ControlProblem
from ctcontrol.exact.lq._arrays import Array, Numbers
from ctcontrol.exact.lq._functionals import Integrand, moments
from ctcontrol.exact.lq._system import AnyPolicy, as_law
from ctcontrol.exact.tilt._gaussians import gaussian_w2
from ctcontrol.exact.tilt._reversal import Reversal
from ctcontrol.exact.tilt._schedule import ForwardProcess
from ctcontrol.exact.tilt._scores import AffineScoreProblem


@dataclass(frozen=True, eq=False, init=False)
class DeterministicTilt(AffineScoreProblem):
    """max E[r(Y_T) − ½κ∫g²|u|²dt] along the probability-flow ODE dY = [−fY + ½g²(s_pre + u)]dt.

    The penalty keeps the samples close in W₂ instead of KL (`w2_bound`). The optimum is
    u* = ∇V/(2κ), in closed form. (docs/theory, reverse SDE.)

    Args:
        schedule: the forward process.
        mean: m, (d,).
        covariance: V, (d, d) positive definite; a number is that multiple of I.
        linear: b, (d,), reward per unit of state.
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
        score_cost: κ > 0, reward per unit of ½g²|u|².
        start: the law of Y_0: (mean, covariance); that of the noised data, N(α_T m, S_T), by
            default.

    Raises:
        CtcontrolError: shapes that do not fit, or a reward under which no score is best.
    """

    def __init__(
        self,
        schedule: ForwardProcess,
        *,
        mean: Numbers,
        covariance: Numbers,
        linear: Numbers,
        quadratic: Numbers = 0.0,
        score_cost: float,
        start: tuple[Numbers, Numbers] | None = None,
    ) -> None:
        super().__init__(
            schedule,
            mean=mean,
            covariance=covariance,
            linear=linear,
            quadratic=quadratic,
            eta=0.0,
            score_cost=score_cost,
            start=start,
        )

    def w2(self, policy: AnyPolicy) -> float:
        """W₂ between the samples of the policy and of the pretrained model, exactly."""
        ends = [
            (m.mean(self.horizon), m.covariance(self.horizon))
            for m in (self.moments(policy), self.moments(self.pretrained))
        ]
        return gaussian_w2(*ends)

    def w2_bound(self, policy: AnyPolicy) -> float:
        """A bound on `w2` for any policy, by Grönwall's lemma: the square root of

        ∫ exp(∫ₜᵀ(2ℓ + 1)) ¼g⁴ E|u(t, Y_t)|² dt,

        with Y under `policy` and ℓ the largest eigenvalue of the pretrained drift's slope, for
        which exp(∫ₜᵀℓ) = (v/S_s)^½ with the largest eigenvalue v of V. (docs/theory, reverse SDE.)
        """
        T = self.horizon
        return math.sqrt(self._along(policy, lambda t, speed: math.exp(T - t) * speed**2))

    def sharp_w2_bound(self, policy: AnyPolicy) -> float:
        """∫ exp(∫ₜᵀℓ) ½g² (E|u|²)^½ dt, by Minkowski's inequality.

        At most (1 − e^{−T})^½ times `w2_bound`, and equal to `w2` for a shift that is constant
        in space in one dimension.
        """
        return self._along(policy, lambda t, speed: speed)

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """Terminal reward r, running reward −½κg²|a − s_pre|²; actions are scores, no noise."""
        return ControlProblem(
            sde=Reversal(self.schedule, 0.0),
            reward=self.penalized_reward(),
            initial=self._start(dtype, device),
            horizon=self.horizon,
        )

    def _along(self, policy: AnyPolicy, function: Callable[[float, float], float]) -> float:
        """∫ function(t, exp(∫ₜᵀℓ) ½g² (E|u|²)^½) dt."""
        law = as_law(policy)

        def integrand(t0: float, t1: float) -> Integrand:
            pieces = law.within(t0, t1)

            def at(t: float, mean: Array, covariance: Array) -> Array:
                K, k, _ = pieces(t)
                u = k - K @ mean
                size = math.sqrt(u @ u + ((K.T @ K) * covariance).sum())
                reach = float(np.linalg.eigvalsh(self.transition(t)[0])[-1])
                speed = 0.5 * self.schedule.intensity(self.horizon - t) * reach * size
                return np.array([function(t, speed)])

            return at

        return float(moments(self, law, integrand, 1).integral(self.horizon)[0])
