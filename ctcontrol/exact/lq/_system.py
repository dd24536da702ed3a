"""Linear dynamics and quadratic costs, possibly varying in time, with every exact answer."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ctcontrol._checks import CtcontrolError
from ctcontrol.exact.lq._arrays import Array
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
from ctcontrol.exact.lq._policy import FixedLinearGaussianPolicy, LinearGaussianPolicy
from ctcontrol.exact.lq._value_function import (
    AdvantageRate,
    Quadratic,
    evaluate,
    optimal_coefficients,
)

AnyPolicy = LinearGaussianLaw | LinearGaussianPolicy | FixedLinearGaussianPolicy
"""A linear-Gaussian policy, as arrays or as a module."""


@dataclass(frozen=True, eq=False)
class Coefficients:
    """dX = (AX + Bu + f)dt + σdW and the cost xᵀQx + 2xᵀSu + uᵀRu per unit of time, at one time.

    Attributes:
        A: (d, d).
        B: (d, m).
        f: (d,).
        Q: (d, d).
        R: (m, m).
        S: (d, m).
        diffusion: Ξ = σσᵀ, (d, d).
    """

    A: Array
    B: Array
    f: Array
    Q: Array
    R: Array
    S: Array
    diffusion: Array


class LinearQuadraticSystem(ABC):
    """Maximize E[−∫e^{−ρt}cost dt + e^{−ρT}h(X_T)] over linear-Gaussian policies, exactly.

    Everything is computed in float64 by numpy and scipy (docs/theory, linear-quadratic problems).
    With a temperature λ > 0 the return also gains λ∫e^{−ρt}entropy(π_t)dt.
    """

    horizon: float
    discount: float
    temperature: float
    initial_mean: Array
    initial_covariance: Array

    @property
    @abstractmethod
    def states(self) -> int:
        """d, the number of state coordinates."""

    @property
    @abstractmethod
    def actions(self) -> int:
        """m, the number of action coordinates."""

    @property
    @abstractmethod
    def terminal(self) -> Quadratic:
        """h, the reward at the horizon."""

    @abstractmethod
    def coefficients(self, t: float) -> Coefficients:
        """Dynamics and costs at time t; smooth in t."""

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

    def optimal_policy(self) -> LinearGaussianLaw:
        """N(−R⁻¹[(BᵀP + Sᵀ)x + Bᵀp], λ/2 R⁻¹) with P, p from the Riccati equation.

        A point mass at λ = 0. Override only where P and p are known without the equation.

        Raises:
            CtcontrolError: a finite escape time, possible only where the costs are indefinite.
        """
        solution = optimal_coefficients(self)

        def gain(t: float) -> Array:
            c = self.coefficients(t)
            return np.linalg.solve(c.R, c.B.T @ solution.at(t).P + c.S.T)

        def offset(t: float) -> Array:
            c = self.coefficients(t)
            return -np.linalg.solve(c.R, c.B.T @ solution.at(t).p)

        def covariance(t: float) -> Array:
            return 0.5 * self.temperature * np.linalg.inv(self.coefficients(t).R)

        return LinearGaussianLaw(gain, offset, covariance)

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
        """J(other) − J(policy), computed as E^{other}∫e^{−ρt}{q^{policy} + λ·entropy(other)}dt."""
        law, new = as_law(policy), as_law(other)
        return advantage_integral(self, law, new, along=new)

    def surrogate_gain(self, policy: AnyPolicy, other: AnyPolicy) -> float:
        """L(other) − J(policy): the same integral along `policy`, first order in the change."""
        law, new = as_law(policy), as_law(other)
        return advantage_integral(self, law, new, along=law)

    def path_kl(self, policy: AnyPolicy, reference: AnyPolicy) -> float:
        """KL(P^policy ‖ P^reference) of the state paths, in nats."""
        return path_kl(self, as_law(policy), as_law(reference))


def as_law(policy: AnyPolicy) -> LinearGaussianLaw:
    """The arrays of a linear-Gaussian policy."""
    return policy if isinstance(policy, LinearGaussianLaw) else policy.law()
