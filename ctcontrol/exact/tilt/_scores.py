"""Affine corrections of the score of Gaussian data: a linear-quadratic problem in disguise."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ctcontrol._checks import check_kind, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._typing import Context
from ctcontrol.exact.lq import (
    Coefficients,
    FixedLinearGaussianPolicy,
    GaussianInitialLaw,
    LinearGaussianLaw,
    LinearQuadraticSystem,
    Quadratic,
)
from ctcontrol.exact.lq._arrays import (
    Array,
    Numbers,
    as_array,
    as_definite,
    as_matrix,
    as_semidefinite,
    as_symmetric,
    as_vector,
)
from ctcontrol.exact.lq._system import AnyPolicy, as_law
from ctcontrol.exact.tilt._mixture import unbearable
from ctcontrol.exact.tilt._reversal import ScorePenaltyReward
from ctcontrol.exact.tilt._schedule import ForwardProcess


@dataclass(frozen=True, eq=False, init=False)
class AffineScoreProblem(LinearQuadraticSystem):
    """max E[r(Y_T) − ½w∫g²|u|²dt + λ∫entropy dt], u = a − s_pre the correction of the score.

    dY = [−fY + c g²(s_pre + u)]dt + ηg dW at s = T − t, with c = ½(1 + η²), data N(m, V) and
    r(y) = bᵀy − ½yᵀKy. The pretrained score s_pre(s, x) = −S_s⁻¹(x − α_s m), S_s = α_s²V + σ_s²I,
    is affine, so affine corrections u = −Kx + k are policies of a linear-quadratic system, and
    their value, return, gradient, path KL and moments are exact. So is the optimum, without a
    Riccati equation. (docs/theory, reverse SDE; linear-quadratic problems.)

    Args:
        schedule: the forward process.
        mean: m, (d,).
        covariance: V, (d, d) positive definite; a number is that multiple of I.
        linear: b, (d,), reward per unit of state.
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
        eta: η ≥ 0, the noise of the sampler.
        score_cost: w > 0, reward per unit of ½g²|u|².
        temperature: λ ≥ 0, reward per nat of entropy and unit of time.
        start: the law of Y_0: (mean, covariance); that of the noised data, N(α_T m, S_T), by
            default.

    Raises:
        CtcontrolError: shapes that do not fit, or a reward under which no score is best.
    """

    schedule: ForwardProcess
    mean: Array
    covariance: Array
    linear: Array
    quadratic: Array
    eta: float
    score_cost: float

    def __init__(
        self,
        schedule: ForwardProcess,
        *,
        mean: Numbers,
        covariance: Numbers,
        linear: Numbers,
        quadratic: Numbers = 0.0,
        eta: float,
        score_cost: float,
        temperature: float = 0.0,
        start: tuple[Numbers, Numbers] | None = None,
    ) -> None:
        check_kind("schedule", schedule, ForwardProcess, "take VariancePreserving(0.1, 20.0)")
        m = as_vector("mean", mean)
        d = len(m)
        V, K = as_matrix("covariance", covariance, d), as_matrix("quadratic", quadratic, d)
        fields = {
            "schedule": schedule,
            "mean": m,
            "covariance": as_definite("covariance", V, d),
            "linear": as_array("linear", linear, (d,)),
            "quadratic": as_symmetric("quadratic", K, d),
            "eta": check_nonnegative("eta", eta),
            "score_cost": check_positive("score_cost", score_cost),
            "horizon": schedule.horizon,
            "discount": 0.0,
            "temperature": check_nonnegative("temperature", temperature),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        reach = self._reach(0.0) / score_cost
        if np.linalg.eigvalsh(np.linalg.inv(reach) + self.quadratic)[0] <= 0:
            raise unbearable()
        first, second = start if start is not None else self.noised(schedule.horizon)
        object.__setattr__(self, "initial_mean", as_array("start mean", first, (d,)))
        spread = as_matrix("start covariance", second, d)
        spread = as_semidefinite("start covariance", spread, d)
        object.__setattr__(self, "initial_covariance", spread)

    @property
    def states(self) -> int:
        return len(self.mean)

    @property
    def actions(self) -> int:
        return len(self.mean)

    @property
    def terminal(self) -> Quadratic:
        """r(y) = bᵀy − ½yᵀKy."""
        return Quadratic(self.quadratic / 2, -self.linear / 2, np.zeros(()))

    @property
    def score_gain(self) -> float:
        """c = ½(1 + η²): g² c is the drift per unit of score."""
        return 0.5 * (1 + self.eta**2)

    def noised(self, s: float) -> tuple[Array, Array]:
        """Mean α_s m and covariance S_s of the data noised up to diffusion time s."""
        alpha, eye = self.schedule.alpha(s), np.eye(len(self.mean))
        return alpha * self.mean, alpha**2 * self.covariance + self.schedule.variance(s) * eye

    def score(self, t: float) -> tuple[Array, Array]:
        """(H, h) with s_pre = h − Hx at control time t; (d, d) and (d,)."""
        center, spread = self.noised(self.horizon - t)
        H = np.linalg.inv(spread)
        return H, H @ center

    def coefficients(self, t: float) -> Coefficients:
        """A = −f − cg²S⁻¹, B = cg²I, f = cg²S⁻¹αm, R = ½wg²I and Ξ = η²g²I at s = T − t."""
        s, eye = self.horizon - t, np.eye(self.states)
        g2, gain = self.schedule.intensity(s), self.score_gain
        H, h = self.score(t)
        none = np.zeros_like(eye)
        return Coefficients(
            A=-self.schedule.pull(s) * eye - gain * g2 * H,
            B=gain * g2 * eye,
            f=gain * g2 * h,
            Q=none,
            R=0.5 * self.score_cost * g2 * eye,
            S=none,
            diffusion=self.eta**2 * g2 * eye,
        )

    def transition(self, t: float) -> tuple[Array, Array, Array]:
        """(Φ, φ, P): under the pretrained score Y_T given Y_t = y is N(Φy + φ, P).

        Φ = (V/S)^½ ϱ^{η²}, φ = m − Φα_s m and P = V(1 − ϱ^{2η²}) with the squared correlation
        ϱ² = α_s²V/S_s of X_0 and X_s, functions of one symmetric matrix. (docs/theory, reverse
        SDE.)
        """
        values, axes = self._axes
        forgotten = self.eta**2 * self._forgotten(t)
        alpha, spread = self._level(t)
        flow = np.sqrt(values / spread) * np.exp(-0.5 * forgotten)
        Phi, P = (axes * flow) @ axes.T, (axes * (-values * np.expm1(-forgotten))) @ axes.T
        return Phi, self.mean - alpha * Phi @ self.mean, P

    def optimal_policy(self) -> LinearGaussianLaw:
        """u*(t, y) = (c/w)Φ(I + KΓ/w)⁻¹(b − K(Φy + φ)), N(·, λ/(w g²)) with a temperature.

        Φ and φ are those of `transition`, and Γ = ∫ₜᵀ c²g²ΦΦᵀ = c²V(1 − ϱ^{2η²})/η², with the
        limit −¼V log ϱ² at η = 0, is what the corrections can do to Y_T per unit of cost.
        """

        def parts(t: float) -> tuple[Array, Array, Array]:
            Phi, shift, _ = self.transition(t)
            bend = np.eye(self.states) + self.quadratic @ self._reach(t) / self.score_cost
            return self.score_gain / self.score_cost * Phi @ np.linalg.inv(bend), Phi, shift

        def gain(t: float) -> Array:
            push, Phi, _ = parts(t)
            return push @ self.quadratic @ Phi

        def offset(t: float) -> Array:
            push, _, shift = parts(t)
            return push @ (self.linear - self.quadratic @ shift)

        def covariance(t: float) -> Array:
            g2 = self.schedule.intensity(self.horizon - t)
            return self.temperature / (self.score_cost * g2) * np.eye(self.states)

        return LinearGaussianLaw(gain, offset, covariance if self.temperature > 0 else 0.0)

    def improved(self, policy: AnyPolicy, proximity: float = 0.0) -> LinearGaussianLaw:
        """One step of proximal policy iteration: u′ = (c∇V^π + p·u)/(w + p), p the `proximity`.

        With p = 0 this is policy iteration, whose regret is squared by every step; p holds u′
        near u at a price of ½p g²|u′ − u|². (docs/theory, prox.)
        """
        value = self.value(policy).function
        law, p = as_law(policy), check_nonnegative("proximity", proximity)
        total = self.score_cost + p

        def gain(t: float) -> Array:
            return (2 * self.score_gain * value.at(t).P + p * law.gain(t)) / total

        def offset(t: float) -> Array:
            return (-2 * self.score_gain * value.at(t).p + p * law.offset(t)) / total

        return LinearGaussianLaw(gain, offset, law.covariance)

    def optimal_end(self) -> tuple[Array, Array]:
        """Mean and covariance of Y_T under the optimal policy, from this start:

        M(Φa + φ + Γb/w) and MP + MΦCΦMᵀ for Y_0 ~ N(a, C), with M = (I + ΓK/w)⁻¹.
        """
        Phi, shift, P = self.transition(0.0)
        reach = self._reach(0.0) / self.score_cost
        M = np.linalg.inv(np.eye(self.states) + reach @ self.quadratic)
        mean = M @ (Phi @ self.initial_mean + shift + reach @ self.linear)
        moved = M @ Phi
        covariance = M @ P + moved @ self.initial_covariance @ moved.T
        return mean, (covariance + covariance.T) / 2

    def score_policy(self, correction: AnyPolicy) -> FixedLinearGaussianPolicy:
        """The policy of `problem` whose actions are the scores s_pre + u."""
        law = as_law(correction)
        self.check(law)

        def gain(t: float) -> Array:
            return self.score(t)[0] + law.gain(t)

        def offset(t: float) -> Array:
            return self.score(t)[1] + law.offset(t)

        return FixedLinearGaussianPolicy(LinearGaussianLaw(gain, offset, law.covariance))

    @abstractmethod
    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """The same for simulation and learning; actions are scores, see `score_policy`."""

    @property
    def pretrained(self) -> LinearGaussianLaw:
        """No correction: u = 0."""
        return LinearGaussianLaw(np.zeros((self.states, self.states)))

    def penalized_reward(self) -> ScorePenaltyReward:
        """−½w g²|a − s_pre|² per unit of time, and r at the end."""
        score = self.score_policy(self.pretrained)
        return ScorePenaltyReward(
            self.schedule,
            lambda t, x, context: score.dist(t, x, context).mean,
            self.score_cost,
            self._reward,
        )

    def _start(self, dtype: torch.dtype, device: torch.device | str) -> GaussianInitialLaw:
        return GaussianInitialLaw.of(self.initial_mean, self.initial_covariance, dtype, device)

    def _reward(self, y: Tensor, context: Context) -> Tensor:
        """r(y), (batch,)."""
        b, K = torch.tensor(self.linear).to(y), torch.tensor(self.quadratic).to(y)
        return y @ b - 0.5 * torch.einsum("bi,ij,bj->b", y, K, y)

    @cached_property
    def _axes(self) -> tuple[Array, Array]:
        """Eigenvalues and eigenvectors of V."""
        values, axes = np.linalg.eigh(self.covariance)
        return values, axes

    def _level(self, t: float) -> tuple[float, Array]:
        """α_s, and the eigenvalues of S_s."""
        s = self.horizon - t
        alpha = self.schedule.alpha(s)
        return alpha, alpha**2 * self._axes[0] + self.schedule.variance(s)

    def _forgotten(self, t: float) -> Array:
        """−log ϱ², an eigenvalue each."""
        s = self.horizon - t
        return np.log1p(self.schedule.variance(s) / (self.schedule.alpha(s) ** 2 * self._axes[0]))

    def _reach(self, t: float) -> Array:
        """Γ."""
        values, axes = self._axes
        forgotten, square = self._forgotten(t), self.eta**2
        share = -np.expm1(-square * forgotten) / square if square > 0 else forgotten
        return (axes * (self.score_gain**2 * values * share)) @ axes.T
