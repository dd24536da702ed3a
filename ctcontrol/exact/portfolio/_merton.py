"""Merton's portfolio with logarithmic utility, with exploration."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from ctcontrol._checks import check_nonnegative, check_number, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol._reward import TerminalReward
from ctcontrol._sde import ControlledSDE
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value
from ctcontrol._volatility import DiagonalVolatility, Volatility
from ctcontrol.exact.exploratory_lq import QuadraticValue
from ctcontrol.exact.lq import Array, GaussianInitialLaw
from ctcontrol.exact.portfolio._laws import Fraction, FractionPolicy, entropy_of

AnyFraction = Fraction | FractionPolicy
"""As numbers or as a module."""


@dataclass(frozen=True)
class WealthSDE(ControlledSDE):
    """dX = X[(r + (μ − r)u)dt + σu dW] for wealth and fractions (batch, 1).

    Attributes:
        rate: r of the riskless asset, per unit of time.
        excess: μ − r, per unit of time.
        sigma: σ, per square root of a unit of time.
    """

    rate: float
    excess: float
    sigma: float

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return x * (self.rate + self.excess * a)

    def volatility(self, t: Time, x: State, a: Action) -> Volatility:
        return DiagonalVolatility(self.sigma * a * x)


@dataclass(frozen=True)
class LogWealthSDE(ControlledSDE):
    """dY = [r + (μ − r)u − ½σ²u²]dt + σu dW, the logarithm Y of wealth (Itô's formula).

    Here an Euler step with a held action is exact.

    Attributes:
        rate, excess, sigma: as in `WealthSDE`.
    """

    rate: float
    excess: float
    sigma: float

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return self.rate + self.excess * a - 0.5 * (self.sigma * a) ** 2

    def volatility(self, t: Time, x: State, a: Action) -> Volatility:
        return DiagonalVolatility(self.sigma * a)


class MertonValue(Value):
    """V(t, x) = log x + rate · (T − t) for wealth x > 0, (batch, 1).

    Args:
        rate: growth rate plus entropy bonus, per unit of time.
        horizon: T.
    """

    def __init__(self, rate: float, horizon: float) -> None:
        super().__init__()
        self.rate, self.horizon = rate, horizon

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,); derivatives by autograd are exact."""
        return x[:, 0].log() + self.rate * (self.horizon - t)


@dataclass(frozen=True, kw_only=True)
class MertonLog:
    """max E[log X_T] + λE∫entropy dt over the fraction u of wealth held in the risky asset.

    Exploration u ~ N(ū, s²) costs ½σ²s² of growth per unit of time, at any step size, because the
    volatility depends on the action. (Merton 1969; entropy as in Jia and Zhou 2023, 2207.00713;
    docs/theory, portfolios.)

    Attributes:
        drift: μ of the risky asset, per unit of time.
        rate: r of the riskless asset, per unit of time.
        volatility: σ > 0 of the risky asset, per square root of a unit of time.
        horizon: T > 0.
        initial_wealth: x₀ > 0.
        temperature: λ ≥ 0, reward per nat and unit of time.

    Raises:
        CtcontrolError: a number out of its range.
    """

    drift: float
    rate: float
    volatility: float
    horizon: float
    initial_wealth: float = 1.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        for name in ("volatility", "horizon", "initial_wealth"):
            check_positive(name, getattr(self, name))
        check_nonnegative("temperature", self.temperature)
        for name in ("drift", "rate"):
            check_number(name, getattr(self, name))

    @property
    def excess(self) -> float:
        """μ − r, per unit of time."""
        return self.drift - self.rate

    # --- answers -------------------------------------------------------------------------------

    def optimal_policy(self) -> Fraction:
        """N((μ − r)/σ², λ/σ²)."""
        return Fraction(self.excess / self.volatility**2, self.temperature / self.volatility**2)

    def growth(self, policy: AnyFraction) -> float:
        """dE[log X]/dt = r + ū(μ − r) − ½σ²(ū² + s²)."""
        law = _law(policy)
        second = law.mean**2 + law.variance
        return self.rate + law.mean * self.excess - 0.5 * self.volatility**2 * second

    def reward_rate(self, policy: AnyFraction) -> float:
        """Growth + λ·entropy; r + (μ − r)²/(2σ²) + (λ/2) log(2πλ/σ²) at the optimum."""
        law = _law(policy)
        return self.growth(law) + self.temperature * entropy_of(law.variance, self.temperature)

    def expected_return(self, policy: AnyFraction) -> float:
        """J(π) = log x₀ + reward rate · T."""
        return math.log(self.initial_wealth) + self.reward_rate(policy) * self.horizon

    def optimal_return(self) -> float:
        """J* = max J."""
        return self.expected_return(self.optimal_policy())

    def value(self, policy: AnyFraction) -> MertonValue:
        """V^π of wealth, as a `Value` for `problem`."""
        return MertonValue(self.reward_rate(policy), self.horizon)

    def log_value(self, policy: AnyFraction) -> QuadraticValue:
        """V^π of the logarithm of wealth, as a `Value` for `log_problem`: y + rate · (T − t)."""
        return QuadraticValue(0.0, 1.0, 0.0, self.reward_rate(policy), self.horizon)

    def advantage_rate(self, policy: AnyFraction, u: Array) -> Array:
        """q(u) = −½σ²(u − u*)² + ½σ²E_π(u − u*)² − λ·entropy(π), at every time and wealth.

        Per unit of time; E_π[q] = −λ·entropy(π).
        """
        bend, law = 0.5 * self.volatility**2, _law(policy)
        gain = self.rate + self.excess * u - bend * u**2
        return gain - self.reward_rate(law)

    def problem(self, dtype: torch.dtype = torch.float64) -> ControlProblem:
        """For simulation and learning, with wealth as the state.

        A step so long that wealth becomes negative ends in a `NumericalError`; `log_problem` has
        no such limit.
        """
        sde = WealthSDE(self.rate, self.excess, self.volatility)
        reward = TerminalReward(lambda x, context: x[:, 0].log())
        return self._problem(sde, reward, self.initial_wealth, dtype)

    def log_problem(self, dtype: torch.dtype = torch.float64) -> ControlProblem:
        """The same with the logarithm of wealth as the state; no discretization error."""
        sde = LogWealthSDE(self.rate, self.excess, self.volatility)
        reward = TerminalReward(lambda x, context: x[:, 0])
        return self._problem(sde, reward, math.log(self.initial_wealth), dtype)

    def _problem(
        self, sde: ControlledSDE, reward: TerminalReward, start: float, dtype: torch.dtype
    ) -> ControlProblem:
        return ControlProblem(
            sde=sde,
            reward=reward,
            initial=GaussianInitialLaw.of(np.array([start]), np.zeros((1, 1)), dtype, "cpu"),
            horizon=self.horizon,
            regularizer=Entropy(self.temperature) if self.temperature else None,
        )


def _law(policy: AnyFraction) -> Fraction:
    return policy if isinstance(policy, Fraction) else policy.law()
