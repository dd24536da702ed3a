"""Everything exact about one-dimensional linear-quadratic control with controlled volatility."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
import torch

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_number
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol.exact.exploratory_lq._dynamics import (
    MultiplicativeNoiseSDE,
    QuadraticValue,
    ScalarQuadraticReward,
)
from ctcontrol.exact.exploratory_lq._quadratic import AdvantageRate, Coefficients
from ctcontrol.exact.lq import (
    FixedLinearGaussianPolicy,
    GaussianInitialLaw,
    LinearGaussianLaw,
    LinearGaussianPolicy,
    PolicyGradient,
)
from ctcontrol.exact.lq._schedule import Constant

AnyPolicy: TypeAlias = LinearGaussianLaw | LinearGaussianPolicy | FixedLinearGaussianPolicy
"""u ~ N(−Kx + k, v), as arrays or as a module, with K of shape (1, 1), constant in time."""


@dataclass(frozen=True)
class _Law:
    """The policy as u ~ N(gx + c, v)."""

    g: float
    c: float
    v: float


@dataclass(frozen=True, kw_only=True)
class ControlledVolatilityLQ(ABC):
    """dX = (AX + Bu)dt + (CX + Du)dW, r = −(½Mx² + Rxu + ½Nu² + Px + Qu), plus λ·entropy.

    All answers solve ρV = r̄ + λH + b̄V' + ½E(Cx + Du)²V'' for the policy's means, where V is
    quadratic, or the same with the average reward in the place of ρV. (docs/theory, exploratory
    linear-quadratic problems; Wang, Zariphopoulou, Zhou 2020.)

    Attributes:
        A, B: drift, per unit of time.
        C, D: volatility, per square root of a unit of time; D is what makes exploration cost.
        M, N, R: quadratic costs of x²/2, u²/2 and xu, reward per unit of time; MN > R², N > 0.
        P, Q: linear costs of x and u.
        temperature: λ ≥ 0, reward per nat and unit of time.
        initial_mean, initial_variance: of the Gaussian X_0.

    Raises:
        CtcontrolError: numbers that are not finite, a reward that is not strictly concave, a
            negative variance or temperature, or a problem where every policy's return is −∞.
    """

    A: float
    B: float
    C: float
    D: float
    M: float
    N: float
    R: float = 0.0
    P: float = 0.0
    Q: float = 0.0
    temperature: float = 0.0
    initial_mean: float = 0.0
    initial_variance: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(field.name, getattr(self, field.name))
        check_nonnegative("temperature", self.temperature)
        check_nonnegative("initial_variance", self.initial_variance)
        if not (self.N > 0 and self.M * self.N > self.R**2):
            raise CtcontrolError(
                "the reward must be strictly concave, N > 0 and MN > R², got "
                f"N = {self.N:g} and MN − R² = {self.M * self.N - self.R**2:g}; raise M or N"
            )
        slowest = self._slowest_growth()
        if not slowest < self._discount:
            raise CtcontrolError(
                f"every policy has return −∞: at best E[X²] grows like e^{{{slowest:.4g} t}}, not "
                f"below the discount {self._discount:.4g}; raise the discount, lower A or C, or "
                "give the action more effect (B)"
            )

    @property
    @abstractmethod
    def _discount(self) -> float:
        """ρ; 0 for the average reward."""

    # --- the optimum ---------------------------------------------------------------------------

    def optimal_policy(self) -> LinearGaussianLaw:
        """N(ϰx + (k₁B − Q)/Δ, λ/Δ), ϰ = [k₂(B + CD) − R]/Δ, Δ = N − k₂D² > 0.

        k₂ < 0 is the negative root of a k₂² − b k₂ + (R² − MN) = 0 with a = (B + CD)² +
        (ρ − 2A − C²)D² and b = (ρ − 2A − C²)N + 2(B + CD)R − D²M. Exploration is λ/Δ, less than
        the λ/N of an uncontrolled volatility. A point mass at λ = 0.
        """
        rho, push = self._discount, self.B + self.C * self.D
        slack = rho - 2 * self.A - self.C**2
        a = push**2 + slack * self.D**2
        b = slack * self.N + 2 * push * self.R - self.D**2 * self.M
        c = self.R**2 - self.M * self.N
        root = math.sqrt(b**2 - 4 * a * c)
        k2 = 2 * c / (b + root) if b > 0 else (b - root) / (2 * a)  # without cancellation
        delta = self.N - k2 * self.D**2
        gain = (k2 * push - self.R) / delta
        k1 = (self.P + gain * self.Q) / (self.A + gain * self.B - rho)
        offset = (k1 * self.B - self.Q) / delta
        return LinearGaussianLaw([[-gain]], [offset], self.temperature / delta)

    # --- any Gaussian policy -------------------------------------------------------------------

    def coefficients(self, policy: AnyPolicy) -> Coefficients:
        """k₂, k₁ and the rate of u ~ N(gx + c, v), with A_g = A + Bg and C_g = C + Dg:

        (ρ − 2A_g − C_g²)k₂ = −(M + 2Rg + Ng²),
        (ρ − A_g)k₁ = k₂c(B + C_gD) − (Rc + Ngc + P + Qg),
        rate = Bck₁ + ½D²(c² + v)k₂ − ½N(c² + v) − Qc + λ·entropy(v).

        Raises:
            CtcontrolError: a policy that varies in time, of another shape, without a finite
                return, or a point mass where λ > 0.
        """
        return self._solve(self._read(policy))

    def _solve(self, law: _Law) -> Coefficients:
        rho, (g, c, v) = self._discount, (law.g, law.c, law.v)
        Ag, Cg = self.A + self.B * g, self.C + self.D * g
        k2 = -(self.M + 2 * self.R * g + self.N * g**2) / (rho - 2 * Ag - Cg**2)
        cost = (self.R + self.N * g) * c + self.P + self.Q * g
        k1 = (k2 * c * (self.B + Cg * self.D) - cost) / (rho - Ag)
        noise = 0.5 * (self.D**2 * k2 - self.N) * (c**2 + v)
        rate = self.B * c * k1 + noise - self.Q * c + self._entropy_rate(v)
        return Coefficients(k2, k1, rate)

    def advantage_rate(self, policy: AnyPolicy) -> AdvantageRate:
        """q^π(x, u), per unit of time."""
        k, rho = self.coefficients(policy), self._discount
        return AdvantageRate(
            uu=0.5 * (self.D**2 * k.k2 - self.N),
            xu=(self.B + self.C * self.D) * k.k2 - self.R,
            xx=0.5 * ((2 * self.A + self.C**2 - rho) * k.k2 - self.M),
            u=self.B * k.k1 - self.Q,
            x=(self.A - rho) * k.k1 - self.P,
            constant=-k.rate,
        )

    def occupation(self, policy: AnyPolicy) -> tuple[float, float]:
        """E[X] and E[X²] under the normalized occupation law ρ∫e^{−ρt}·law(X_t)dt.

        At ρ = 0, the stationary law.
        """
        return self._occupation(self._read(policy))

    def _occupation(self, law: _Law) -> tuple[float, float]:
        rho, (g, c, v) = self._discount, (law.g, law.c, law.v)
        Ag, Cg = self.A + self.B * g, self.C + self.D * g
        mean = (rho * self.initial_mean + self.B * c) / (rho - Ag)
        start = rho * (self.initial_mean**2 + self.initial_variance)
        source = start + 2 * (self.B + Cg * self.D) * c * mean + self.D**2 * (c**2 + v)
        return mean, source / (rho - 2 * Ag - Cg**2)

    def gradient(self, policy: AnyPolicy) -> PolicyGradient:
        """Derivatives in (K, k, v) of the return, or of the average reward.

        ∂q/∂u at the mean action is ex + f with e = (B + C_gD)k₂ − R − Ng and f = Bk₁ − Q +
        (D²k₂ − N)c; its occupation mean is the derivative in k, that times −x the one in K, and
        ½(D²k₂ − N) + λ/(2v) the one in v.
        """
        law, scale = self._read(policy), 1 / (self._discount or 1.0)
        k, Cg = self._solve(law), self.C + self.D * law.g
        mean, second = self._occupation(law)
        e = (self.B + Cg * self.D) * k.k2 - self.R - self.N * law.g
        f = self.B * k.k1 - self.Q + (self.D**2 * k.k2 - self.N) * law.c
        bonus = self.temperature / (2 * law.v) if self.temperature else 0.0
        spread = 0.5 * (self.D**2 * k.k2 - self.N) + bonus
        return PolicyGradient(
            gain=np.array([[-scale * (e * second + f * mean)]]),
            offset=np.array([scale * (e * mean + f)]),
            covariance=np.array([[scale * spread]]),
        )

    def performance_difference(self, policy: AnyPolicy, other: AnyPolicy) -> float:
        """Return (average reward) of `other` minus that of `policy`, as

        E[q^policy + λ·entropy(other)]/ρ under the occupation law of `other`, (not over ρ).
        """
        rate, law = self.advantage_rate(policy), self._read(other)
        mean, second = self._occupation(law)
        gap = rate.expectation(law.g, law.c, law.v, mean, second) + self._entropy_rate(law.v)
        return gap / (self._discount or 1.0)

    # --- for the simulator ---------------------------------------------------------------------

    def sde(self) -> MultiplicativeNoiseSDE:
        """The dynamics."""
        return MultiplicativeNoiseSDE(self.A, self.B, self.C, self.D)

    def _problem(self, horizon: float, tail: QuadraticValue, dtype: torch.dtype) -> ControlProblem:
        mean, covariance = np.array([self.initial_mean]), np.array([[self.initial_variance]])
        return ControlProblem(
            sde=self.sde(),
            reward=ScalarQuadraticReward(self.M, self.N, self.R, self.P, self.Q, tail),
            initial=GaussianInitialLaw.of(mean, covariance, dtype, "cpu"),
            horizon=horizon,
            discount=self._discount,
            regularizer=Entropy(self.temperature) if self.temperature else None,
        )

    # --- inside --------------------------------------------------------------------------------

    def _read(self, policy: AnyPolicy) -> _Law:
        law = policy if isinstance(policy, LinearGaussianLaw) else policy.law()
        if (law.actions, law.states) != (1, 1):
            raise CtcontrolError(
                f"the policy's gain has shape {(law.actions, law.states)}, but this problem has "
                "one action and one state"
            )
        if not all(isinstance(schedule, Constant) for schedule in law.schedules):
            raise CtcontrolError("policies must be constant in time here; give plain arrays")
        K, k, v = (float(part.item()) for part in law.at(0.0))
        growth = 2 * (self.A - self.B * K) + (self.C - self.D * K) ** 2
        if not growth < self._discount:
            raise CtcontrolError(
                f"the return is not finite: under this gain E[X²] grows like e^{{{growth:.4g} t}}, "
                f"not below the discount {self._discount:.4g}; use a gain such as that of "
                "optimal_policy()"
            )
        return _Law(-K, k, v)

    def _entropy_rate(self, v: float) -> float:
        if self.temperature == 0:
            return 0.0
        if v <= 0:
            raise CtcontrolError(
                "with a temperature the policy's variance must be > 0, because the entropy of a "
                "point mass is −∞; raise it, or set temperature = 0"
            )
        return 0.5 * self.temperature * math.log(2 * math.pi * math.e * v)

    def _slowest_growth(self) -> float:
        """min over gains of 2(A + Bg) + (C + Dg)², the growth rate of E[X²]."""
        if self.D != 0:
            return 2 * self.A + self.C**2 - (self.B + self.C * self.D) ** 2 / self.D**2
        return -math.inf if self.B != 0 else 2 * self.A + self.C**2
