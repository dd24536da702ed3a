"""Reward-directed q-learning of a score (Gao, Zha and Zhou 2024) for Gaussian data."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import quad

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array
from ctcontrol.exact.tilt._gaussians import GaussianLaw
from ctcontrol.exact.tilt._reversal import Reversal
from ctcontrol.exact.tilt._schedule import ForwardProcess
from ctcontrol.exact.tilt._scores import AffineScoreProblem


@dataclass(frozen=True, eq=False, init=False)
class RewardDirected(AffineScoreProblem):
    """max β E[h(Y_T)] − E∫g²|a − s_pre|²dt + θ E∫entropy dt, with h(y) = bᵀy − ½yᵀKy.

    The penalty has no ½, so it is twice the path KL and the samples are tilted by e^{βh/2}. The
    optimum is N(s_pre + ½∇J*, θ/(2g²)I) for the SDE, N(s_pre + ¼∇J*, θ/(2g²)I) for the
    probability-flow ODE, and its q-function is normalized, ∫e^{q/θ}da = 1. (Gao, Zha and Zhou
    2024, with the terminal reward βh; docs/theory, advantage rate.)

    Args:
        schedule: the forward process; with a temperature its g must not vanish.
        mean: m, (d,).
        covariance: V, (d, d) positive definite; a number is that multiple of I.
        linear: b, (d,), reward per unit of state.
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
        reward_weight: β > 0.
        temperature: θ ≥ 0, reward per nat of entropy and unit of time.
        deterministic: sample by the probability-flow ODE.
        start: the law of Y_0: (mean, covariance); that of the noised data by default.

    Raises:
        CtcontrolError: shapes that do not fit, a reward under which no score is best, or a
            temperature where g vanishes at the data.
    """

    reward_weight: float

    def __init__(
        self,
        schedule: ForwardProcess,
        *,
        mean: Numbers,
        covariance: Numbers,
        linear: Numbers,
        quadratic: Numbers = 0.0,
        reward_weight: float,
        temperature: float,
        deterministic: bool = False,
        start: tuple[Numbers, Numbers] | None = None,
    ) -> None:
        beta = check_positive("reward_weight", reward_weight)
        object.__setattr__(self, "reward_weight", beta)
        if check_nonnegative("temperature", temperature) > 0 and not schedule.intensity(0.0) > 0:
            raise CtcontrolError(
                "g vanishes at the data, where the optimal exploration θ/(2g²) is infinite; use a "
                "schedule with g > 0 there, or temperature = 0"
            )
        super().__init__(
            schedule,
            mean=mean,
            covariance=covariance,
            linear=beta * as_array("linear", linear),
            quadratic=beta * as_array("quadratic", quadratic),
            eta=0.0 if deterministic else 1.0,
            score_cost=2.0,
            temperature=temperature,
            start=start,
        )

    def target(self) -> GaussianLaw:
        """Mean and covariance of the law ∝ p_data e^{βh/2}.

        Raises:
            CtcontrolError: the sampler is deterministic, whose samples have no such law.
        """
        if self.eta == 0:
            raise CtcontrolError(
                "a deterministic sampler does not end at a tilted law; use optimal_end()"
            )
        precision = np.linalg.inv(self.covariance)
        spread = np.linalg.inv(precision + self.quadratic / 2)
        return spread @ (precision @ self.mean + self.linear / 2), spread

    def entropy_bonus(self, t: float) -> float:
        """½θd∫ₜᵀ log(πθ/g²)du, what the temperature adds to J*(t, ·)."""
        if self.temperature == 0:
            return 0.0

        def rate(u: float) -> float:
            g2 = self.schedule.intensity(self.horizon - u)
            return math.log(math.pi * self.temperature / g2)

        integral = quad(rate, t, self.horizon, epsabs=1e-13, epsrel=1e-13)[0]
        return 0.5 * self.temperature * self.states * integral

    def optimal_value(self, t: float, y: Array) -> float:
        """J*(t, y) = 2 log E^pre[e^{βh/2} | Y_t = y] + `entropy_bonus`; y is (d,).

        For the ODE the first term is maxₓ[βh(x) − (x − Φy − φ)ᵀΓ⁻¹(x − Φy − φ)] instead.
        """
        Phi, shift, P = self.transition(t)
        center, reach = Phi @ y + shift, self._reach(t)
        bend = np.eye(self.states) + self.quadratic @ reach / 2
        slope = self.linear - self.quadratic @ center
        best = center @ self.linear - 0.5 * center @ self.quadratic @ center
        best += 0.25 * slope @ reach @ np.linalg.solve(bend, slope)
        spread = np.linalg.slogdet(np.eye(self.states) + self.quadratic @ P / 2)[1]
        return float(best - spread + self.entropy_bonus(t))

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """Terminal reward βh, running reward −g²|a − s_pre|², `Entropy`; actions are scores."""
        return ControlProblem(
            sde=Reversal(self.schedule, self.eta),
            reward=self.penalized_reward(),
            initial=self._start(dtype, device),
            horizon=self.horizon,
            regularizer=Entropy(self.temperature) if self.temperature > 0 else None,
        )
