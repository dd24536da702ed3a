"""Fine-tuning a diffusion model of Gaussian data with a penalty on path KL."""

from dataclasses import dataclass

import numpy as np
import torch

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import PathKL
from ctcontrol._reward import TerminalReward
from ctcontrol.exact.lq import LinearGaussianLaw
from ctcontrol.exact.lq._arrays import Array, Numbers
from ctcontrol.exact.lq._functionals import Integrand, moments
from ctcontrol.exact.lq._system import AnyPolicy, as_law
from ctcontrol.exact.tilt._gaussians import GaussianLaw, gaussian_kl
from ctcontrol.exact.tilt._mixture import unbearable
from ctcontrol.exact.tilt._reversal import Reversal
from ctcontrol.exact.tilt._schedule import ForwardProcess
from ctcontrol.exact.tilt._scores import AffineScoreProblem


@dataclass(frozen=True)
class Divergence:
    """KL of the paths, of the samples, and what lies between, in nats: path = marginal + gap.

    Attributes:
        path: KL(P ‖ P_ref) of the paths.
        marginal: KL(P_T ‖ P_ref,T) of the samples alone.
        gap: ½E^P∫|σ∇log(p_t/p_ref,t) − σ⁻¹(b − b_ref)|²dt ≥ 0, integrated by itself.
    """

    path: float
    marginal: float
    gap: float


@dataclass(frozen=True, eq=False, init=False)
class GaussianTilt(AffineScoreProblem):
    """max E[r(Y_T)] − κ KL(P ‖ P_pre) over affine corrections u = a − s_pre of the score.

    KL(P ‖ P_pre) = ½(c/η)²E∫g²|u|²dt with c = ½(1 + η²): the factor of g²|u|² is 1/2 at η = 1 and
    grows without bound as η → 0. The optimum at η = 1 is the score of the noised target
    p* ∝ p_data e^{r/κ}. Started at the noised data it misses p*: for a linear reward its mean is
    m + (1 − ϱ_T^{2η²})Vb/κ instead of m + Vb/κ, which `optimal_end` gives for any reward and
    start, and `tilted_start` repairs. (docs/theory, reverse SDE; path KL.)

    Args:
        schedule: the forward process.
        mean: m, (d,).
        covariance: V, (d, d) positive definite; a number is that multiple of I.
        linear: b, (d,), reward per unit of state.
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
        kl_weight: κ > 0, reward per nat.
        eta: η > 0, the noise of the sampler.
        start: the law of Y_0: (mean, covariance); that of the noised data, N(α_T m, S_T), by
            default.

    Raises:
        CtcontrolError: shapes that do not fit, eta = 0 (then path KL is infinite: see
            `DeterministicTilt`), or a reward that no κ-tilted law can bear: V⁻¹ + K/κ must be
            positive definite.
    """

    kl_weight: float

    def __init__(
        self,
        schedule: ForwardProcess,
        *,
        mean: Numbers,
        covariance: Numbers,
        linear: Numbers,
        quadratic: Numbers = 0.0,
        kl_weight: float,
        eta: float = 1.0,
        start: tuple[Numbers, Numbers] | None = None,
    ) -> None:
        if not check_nonnegative("eta", eta) > 0:
            raise CtcontrolError(
                f"eta must be > 0, got {eta}: without noise path KL is infinite; use "
                "DeterministicTilt, which penalizes scores instead"
            )
        kappa = check_positive("kl_weight", kl_weight)
        object.__setattr__(self, "kl_weight", kappa)
        super().__init__(
            schedule,
            mean=mean,
            covariance=covariance,
            linear=linear,
            quadratic=quadratic,
            eta=eta,
            score_cost=kappa * ((1 + eta**2) / (2 * eta)) ** 2,
            start=start,
        )
        if np.linalg.eigvalsh(np.linalg.inv(self.covariance) + self.quadratic / kappa)[0] <= 0:
            raise unbearable()

    def target(self) -> GaussianLaw:
        """Mean and covariance of p* ∝ p_data e^{r/κ}: V* = (V⁻¹ + K/κ)⁻¹, V*(V⁻¹m + b/κ)."""
        precision = np.linalg.inv(self.covariance)
        spread = np.linalg.inv(precision + self.quadratic / self.kl_weight)
        return spread @ (precision @ self.mean + self.linear / self.kl_weight), spread

    def tilted_start(self) -> GaussianLaw:
        """Mean and covariance of p_0* ∝ p_0 e^{V(0,·)/κ}, p_0 the law of Y_0.

        Where p_0 is the noised data, the optimal policy started there ends at the target, for
        every η; at η = 1 it is the noised target. (Domingo-Enrich et al. 2025; Tang 2024.)
        """
        Phi, shift, P = self.transition(0.0)
        bend = self.quadratic / self.kl_weight
        push = np.linalg.inv(np.eye(self.states) + bend @ P)
        prior = np.linalg.inv(self.initial_covariance)
        spread = np.linalg.inv(prior + Phi @ push @ bend @ Phi)
        pull = Phi @ push @ (self.linear / self.kl_weight - bend @ shift)
        return spread @ (prior @ self.initial_mean + pull), (spread + spread.T) / 2

    def started_at(self, law: tuple[Numbers, Numbers]) -> "GaussianTilt":
        """The same problem from another start, (mean, covariance)."""
        return GaussianTilt(
            self.schedule,
            mean=self.mean,
            covariance=self.covariance,
            linear=self.linear,
            quadratic=self.quadratic,
            kl_weight=self.kl_weight,
            eta=self.eta,
            start=law,
        )

    def divergence(self, policy: AnyPolicy, reference: AnyPolicy | None = None) -> Divergence:
        """How far the policy is from the reference, by default the pretrained model.

        The expectation is under `policy`; both start at the same law. (docs/theory, path KL.)

        Raises:
            CtcontrolError: a start without a density.
        """
        law, other = as_law(policy), self.pretrained if reference is None else as_law(reference)
        if np.linalg.eigvalsh(self.initial_covariance)[0] <= 0:
            raise CtcontrolError(
                "the start has a singular covariance, so the laws on the way have no density; "
                "give it a positive definite one"
            )
        ends = [
            (m.mean(self.horizon), m.covariance(self.horizon))
            for m in (self.moments(law), self.moments(other))
        ]
        path = self.path_kl(law, other)
        return Divergence(path, gaussian_kl(*ends), self._gap(law, other))

    def _gap(self, law: LinearGaussianLaw, other: LinearGaussianLaw) -> float:
        """½E∫η²g²|∇log(p/p_ref) − (c/η²)(u − u_ref)|²dt, with both scores affine."""
        tail, ratio = self.moments(other), self.score_gain / self.eta**2

        def integrand(t0: float, t1: float) -> Integrand:
            first, second = law.within(t0, t1), other.within(t0, t1)

            def at(t: float, mean: Array, covariance: Array) -> Array:
                (K, k, _), (K_, k_, _) = first(t), second(t)
                inverse, inverse_ = np.linalg.inv(covariance), np.linalg.inv(tail.covariance(t))
                slope = inverse_ - inverse + ratio * (K - K_)
                shift = inverse_ @ (mean - tail.mean(t)) + ratio * ((K - K_) @ mean - k + k_)
                square = shift @ shift + ((slope.T @ slope) * covariance).sum()
                g2 = self.schedule.intensity(self.horizon - t)
                return np.array([0.5 * self.eta**2 * g2 * square])

            return at

        result = moments(self, law, integrand, 1, other.schedules)
        return float(result.integral(self.horizon)[0])

    def mean_shift(self) -> Array:
        """E Y_T − m under the optimum, for a linear reward from the noised data, (d,):

        (1 − ϱ_T^{2η²})Vb/κ. It tends to Vb/κ, the tilt, as ϱ_T → 0, and to 0 as η → 0.

        Raises:
            CtcontrolError: the reward is not linear.
        """
        if self.quadratic.any():
            raise CtcontrolError(
                "the mean shift in closed form is that of a linear reward, but quadratic is not "
                "zero; use optimal_end()"
            )
        return self.transition(0.0)[2] @ self.linear / self.kl_weight

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """Terminal reward r and `PathKL` to the pretrained score; actions are scores."""
        return ControlProblem(
            sde=Reversal(self.schedule, self.eta),
            reward=TerminalReward(self._reward),
            initial=self._start(dtype, device),
            horizon=self.horizon,
            regularizer=PathKL(self.score_policy(self.pretrained), self.kl_weight),
        )
