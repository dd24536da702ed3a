"""Fine-tuning a diffusion model of Gaussian data: a linear-quadratic problem in disguise."""

from dataclasses import dataclass

import numpy as np

from ctcontrol._checks import CtcontrolError, check_positive
from ctcontrol.exact.lq import Coefficients, LinearQuadraticSystem, Quadratic
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array, as_definite, as_symmetric
from ctcontrol.exact.tilt._schedule import VariancePreserving


@dataclass(frozen=True, eq=False, init=False)
class GaussianTilt(LinearQuadraticSystem):
    """max E[r(Y_T) − κ/2 ∫β|u|²dt] with the action u = a − s_pre, the correction of the score.

    dY = [½βY + β(s_pre + u)]dt + √β dW at s = T − t, data N(m, V), and r(y) = bᵀy − ½yᵀKy. The
    pretrained score s_pre(s, x) = −S_s⁻¹(x − α_s m), S_s = α_s²V + σ_s²I, is affine, so every
    affine correction u = −Kx + k is a policy of a linear-quadratic system. (docs/theory, reverse
    SDE; linear-quadratic problems.)

    Args:
        schedule: the forward process.
        mean: m, (d,).
        covariance: V, (d, d) positive definite; a number is that multiple of I.
        linear: b, (d,), reward per unit of state.
        quadratic: K, (d, d) symmetric; a number is that multiple of I.
        kl_weight: κ > 0, reward per nat.
        start: the law of Y_0: (mean, covariance); that of the noised data, N(α_T m, S_T), by
            default.

    Raises:
        CtcontrolError: shapes that do not fit, or a reward that no κ-tilted law can bear:
            V⁻¹ + K/κ must be positive definite.
    """

    schedule: VariancePreserving
    mean: Array
    covariance: Array
    linear: Array
    quadratic: Array
    kl_weight: float

    def __init__(
        self,
        schedule: VariancePreserving,
        *,
        mean: Numbers,
        covariance: Numbers,
        linear: Numbers,
        quadratic: Numbers = 0.0,
        kl_weight: float,
        start: tuple[Numbers, Numbers] | None = None,
    ) -> None:
        m = as_array("mean", mean)
        if m.ndim != 1:
            raise CtcontrolError(f"mean must be a vector (states,), got shape {m.shape}")
        d, eye = len(m), np.eye(len(m))
        V = as_array("covariance", covariance)
        K = as_array("quadratic", quadratic)
        fields = {
            "schedule": schedule,
            "mean": m,
            "covariance": as_definite("covariance", V * eye if V.ndim == 0 else V, d),
            "linear": as_array("linear", linear, (d,)),
            "quadratic": as_symmetric("quadratic", K * eye if K.ndim == 0 else K, d),
            "kl_weight": check_positive("kl_weight", kl_weight),
            "horizon": schedule.horizon,
            "discount": 0.0,
            "temperature": 0.0,
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        precision = np.linalg.inv(self.covariance) + self.quadratic / kl_weight
        if np.linalg.eigvalsh(precision)[0] <= 0:
            raise CtcontrolError(
                "the reward grows faster than the data's density falls, so the tilted law has no "
                "density; raise kl_weight, or make the quadratic cost larger"
            )
        first, second = start if start is not None else self.noised(schedule.horizon)
        object.__setattr__(self, "initial_mean", as_array("start mean", first, (d,)))
        spread = as_symmetric("start covariance", second, d)
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
        """A = ½β − βS⁻¹, B = βI, f = βS⁻¹αm, R = ½κβI and Ξ = βI at s = T − t."""
        beta, eye = self.schedule.beta(self.horizon - t), np.eye(self.states)
        H, h = self.score(t)
        none = np.zeros_like(eye)
        return Coefficients(
            A=beta * (0.5 * eye - H),
            B=beta * eye,
            f=beta * h,
            Q=none,
            R=0.5 * self.kl_weight * beta * eye,
            S=none,
            diffusion=beta * eye,
        )

    def target(self) -> tuple[Array, Array]:
        """Mean and covariance of p* ∝ p_data e^{r/κ}: (V⁻¹ + K/κ)⁻¹ and its product with

        V⁻¹m + b/κ. The optimal policy ends there if it starts at its own noised law.
        """
        precision = np.linalg.inv(self.covariance)
        spread = np.linalg.inv(precision + self.quadratic / self.kl_weight)
        return spread @ (precision @ self.mean + self.linear / self.kl_weight), spread
