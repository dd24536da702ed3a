"""The linear-quadratic problem: a control problem whose every answer is known."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol.exact.lq._arrays import Array, as_array, as_definite, as_semidefinite
from ctcontrol.exact.lq._chain import EulerMaruyamaChain
from ctcontrol.exact.lq._dynamics import GaussianInitialLaw, QuadraticReward, linear_sde
from ctcontrol.exact.lq._exact_value import ExactValue
from ctcontrol.exact.lq._functionals import (
    Moments,
    PolicyGradient,
    advantage_integral,
    moments,
    path_kl,
    policy_gradient,
)
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._policy import LinearGaussianPolicy
from ctcontrol.exact.lq._riccati import solve_riccati
from ctcontrol.exact.lq._value_function import AdvantageRate, Quadratic, evaluate

AnyPolicy = LinearGaussianLaw | LinearGaussianPolicy
"""A linear-Gaussian policy, as arrays or as a module."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LQProblem:
    """dX = (AX + Bu)dt + σdW, maximise E[−∫e^{−ρt}(XᵀQX + 2XᵀSu + uᵀRu)dt − e^{−ρT}X_TᵀGX_T].

    Every exact quantity is computed in float64 by numpy and scipy (docs/theory, linear-quadratic
    problems). With `temperature` λ > 0 the return also gains λ ∫ e^{−ρt} entropy(π_t) dt.

    Attributes:
        A: (d, d), per unit of time.
        B: (d, m), drift per unit of action, per unit of time.
        Q: (d, d) symmetric positive semidefinite, cost per unit of time.
        R: (m, m) symmetric positive definite, cost per unit of time.
        G: (d, d) symmetric positive semidefinite, cost at the horizon.
        volatility: σ, (d, k), per square root of a unit of time; a number is that multiple of I.
        horizon: T > 0.
        initial_mean: (d,), E X_0.
        initial_covariance: (d, d) positive semidefinite; a number is that multiple of I.
        S: (d, m), cross cost per unit of time; 0 by default.
        discount: ρ ≥ 0, per unit of time.
        temperature: λ ≥ 0, reward per nat of entropy and unit of time.

    Raises:
        CtcontrolError: shapes that do not fit, a matrix that is not symmetric, semidefinite or
            definite as stated, [[Q, S], [Sᵀ, R]] that is not positive semidefinite, a horizon
            that is not positive, a negative discount or temperature, or NaN anywhere.
    """

    A: Array
    B: Array
    Q: Array
    R: Array
    G: Array
    volatility: Array
    horizon: float
    initial_mean: Array
    initial_covariance: Array
    S: Array
    discount: float
    temperature: float

    def __init__(
        self,
        *,
        A: ArrayLike,
        B: ArrayLike,
        Q: ArrayLike,
        R: ArrayLike,
        G: ArrayLike,
        volatility: ArrayLike,
        horizon: float,
        initial_mean: ArrayLike,
        initial_covariance: ArrayLike = 0.0,
        S: ArrayLike | None = None,
        discount: float = 0.0,
        temperature: float = 0.0,
    ) -> None:
        A_, B_ = as_array("A", A), as_array("B", B)
        if A_.ndim != 2 or A_.shape[0] != A_.shape[1] or len(A_) == 0:
            raise CtcontrolError(f"A must be a square matrix (states, states), got {A_.shape}")
        d = len(A_)
        if B_.ndim != 2 or len(B_) != d or B_.shape[1] == 0:
            raise CtcontrolError(
                f"B must be a matrix (states, actions) with {d} rows like A, got shape {B_.shape}"
            )
        m = B_.shape[1]
        noise = _times_identity("volatility", volatility, d)
        if noise.ndim != 2 or len(noise) != d:
            raise CtcontrolError(
                f"volatility must be a number or a matrix (states, noises) with {d} rows, got "
                f"shape {noise.shape}"
            )
        spread = _times_identity("initial_covariance", initial_covariance, d)
        fields = {
            "A": A_,
            "B": B_,
            "Q": as_semidefinite("Q", Q, d),
            "R": as_definite("R", R, m),
            "G": as_semidefinite("G", G, d),
            "S": as_array("S", np.zeros((d, m)) if S is None else S, (d, m)),
            "volatility": noise,
            "horizon": check_positive("horizon", horizon),
            "initial_mean": as_array("initial_mean", initial_mean, (d,)),
            "initial_covariance": as_semidefinite("initial_covariance", spread, d),
            "discount": check_nonnegative("discount", discount),
            "temperature": check_nonnegative("temperature", temperature),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.S.any():
            joint = np.block([[self.Q, self.S], [self.S.T, self.R]])
            as_semidefinite("the cost matrix [[Q, S], [Sᵀ, R]]", joint, d + m)

    @property
    def states(self) -> int:
        """d, the number of state coordinates."""
        return len(self.A)

    @property
    def actions(self) -> int:
        """m, the number of action coordinates."""
        return self.B.shape[1]

    @property
    def diffusion(self) -> Array:
        """Ξ = σσᵀ, (d, d)."""
        return self.volatility @ self.volatility.T

    @property
    def terminal(self) -> Quadratic:
        """h(x) = −xᵀGx."""
        return Quadratic(self.G, np.zeros(self.states), np.zeros(()))

    def check(self, law: LinearGaussianLaw) -> None:
        """Raise `CtcontrolError` unless the policy's shapes are those of this problem."""
        if (law.actions, law.states) != (self.actions, self.states):
            raise CtcontrolError(
                f"the policy's gain has shape {(law.actions, law.states)}, but this problem has "
                f"{self.actions} actions and {self.states} states"
            )

    def entropy_rate(self, covariance: Array) -> float:
        """λ times the entropy of N(·, Λ); 0 without a temperature."""
        if self.temperature == 0:
            return 0.0
        sign, logdet = np.linalg.slogdet(2 * math.pi * math.e * covariance)
        if sign <= 0:
            raise CtcontrolError(
                "with a temperature the policy's covariance must be positive definite, because "
                "the entropy of a point mass is −∞; raise it, or set temperature = 0"
            )
        return 0.5 * self.temperature * float(logdet)

    def entropy_gradient(self, covariance: Array) -> Array:
        """Its derivative with respect to Λ, λ/2 Λ⁻¹."""
        if self.temperature == 0:
            return np.zeros_like(covariance)
        return 0.5 * self.temperature * np.linalg.inv(covariance)

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """The same problem for simulation and learning, with tensors of this dtype and device."""
        return ControlProblem(
            sde=linear_sde(self.A, self.B, self.volatility, dtype, device),
            reward=QuadraticReward.of(self.Q, self.R, self.S, self.G, dtype, device),
            initial=GaussianInitialLaw.of(
                self.initial_mean, self.initial_covariance, dtype, device
            ),
            horizon=self.horizon,
            discount=self.discount,
            regularizer=Entropy(self.temperature) if self.temperature > 0 else None,
        )

    def optimal_policy(self) -> LinearGaussianLaw:
        """N(−R⁻¹(BᵀP + Sᵀ)x, λ/2 R⁻¹) with P from the Riccati equation; a point mass at λ = 0."""
        P = solve_riccati(
            self.A, self.B, self.Q, self.R, self.G, self.horizon, self.S, self.discount
        )
        covariance = 0.5 * self.temperature * np.linalg.inv(self.R)
        return LinearGaussianLaw(
            lambda t: np.linalg.solve(self.R, self.B.T @ P(t) + self.S.T), covariance=covariance
        )

    def optimal_return(self) -> float:
        """J* = max J."""
        return self.expected_return(self.optimal_policy())

    def expected_return(self, policy: AnyPolicy) -> float:
        """J(π), in units of reward."""
        value = evaluate(self, as_law(policy)).at(0.0)
        return value.expectation(self.initial_mean, self.initial_covariance)

    def value(self, policy: AnyPolicy) -> ExactValue:
        """V^π with its derivatives, as a `Value` for estimators and critics to be held against."""
        return ExactValue(evaluate(self, as_law(policy)))

    def advantage_rate(self, policy: AnyPolicy) -> AdvantageRate:
        """q^π(t, x, u), per unit of time."""
        law = as_law(policy)
        return AdvantageRate(self, law, evaluate(self, law))

    def moments(self, policy: AnyPolicy) -> Moments:
        """Mean and covariance of X_t under the policy."""
        return moments(self, as_law(policy))

    def gradient(self, policy: AnyPolicy) -> PolicyGradient:
        """dJ/dK, dJ/dk, dJ/dΛ."""
        return policy_gradient(self, as_law(policy))

    def performance_difference(self, policy: AnyPolicy, other: AnyPolicy) -> float:
        """J(other) − J(policy), computed as E^{other}∫e^{−ρt}q^{policy}dt."""
        law, new = as_law(policy), as_law(other)
        return advantage_integral(self, law, new, along=new)

    def surrogate_gain(self, policy: AnyPolicy, other: AnyPolicy) -> float:
        """L(other) − J(policy): the same integral along `policy`, first order in the change."""
        law, new = as_law(policy), as_law(other)
        return advantage_integral(self, law, new, along=law)

    def path_kl(self, policy: AnyPolicy, reference: AnyPolicy) -> float:
        """KL(P^policy ‖ P^reference) of the state paths, in nats."""
        return path_kl(self, as_law(policy), as_law(reference))

    def chain(self, times: ArrayLike) -> EulerMaruyamaChain:
        """The Euler–Maruyama chain on these times: what simulation estimates without bias."""
        return EulerMaruyamaChain(self, np.asarray(times, dtype=np.float64))


def as_law(policy: AnyPolicy) -> LinearGaussianLaw:
    """The arrays of a linear-Gaussian policy."""
    return policy.law() if isinstance(policy, LinearGaussianPolicy) else policy


def _times_identity(name: str, value: ArrayLike, size: int) -> Array:
    """A number becomes that multiple of the identity."""
    array = as_array(name, value)
    return as_array(name, array * np.eye(size)) if array.ndim == 0 else array
