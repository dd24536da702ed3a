"""Continuous-time mean-variance investment with exploration (Wang and Zhou 2020)."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_number, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol._reward import TerminalReward
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value
from ctcontrol.exact.exploratory_lq import MultiplicativeNoiseSDE
from ctcontrol.exact.lq import Array, GaussianInitialLaw
from ctcontrol.exact.portfolio._laws import Investment, InvestmentPolicy, entropy_of

AnyInvestment = Investment | InvestmentPolicy
"""As numbers or as a module."""


@dataclass(frozen=True, kw_only=True)
class MeanVariance:
    """max −E(X_T − w)² + (w − z)² + λE∫entropy dt for discounted wealth dX = σu(ϱ dt + dW).

    The least variance of X_T among policies with E X_T = z, by the multiplier w. Rewards are the
    negative of the costs of Wang and Zhou (2020, 1904.11392); states and actions are (batch, 1).
    (docs/theory, portfolios.)

    Attributes:
        sharpe: ϱ = (μ − r)/σ, per square root of a unit of time; not 0.
        volatility: σ > 0 of the asset, per square root of a unit of time.
        horizon: T > 0.
        initial_wealth: x₀.
        target: z, the wanted mean of X_T.
        temperature: λ ≥ 0, reward per nat and unit of time.
        multiplier: w; None for the one of `exact_multiplier`, whose optimum meets the target.

    Raises:
        CtcontrolError: a number out of its range.
    """

    sharpe: float
    volatility: float
    horizon: float
    initial_wealth: float
    target: float
    temperature: float = 0.0
    multiplier: float | None = None

    def __post_init__(self) -> None:
        check_positive("volatility", self.volatility)
        check_positive("horizon", self.horizon)
        check_nonnegative("temperature", self.temperature)
        if check_number("sharpe", self.sharpe) == 0:
            raise CtcontrolError(
                f"sharpe must be a finite number other than 0, got {self.sharpe}: without an "
                "excess return no policy moves the mean of wealth to the target"
            )
        for name in ("initial_wealth", "target"):
            check_number(name, getattr(self, name))
        if self.multiplier is not None:
            check_number("multiplier", self.multiplier)

    @property
    def exact_multiplier(self) -> float:
        """w = (z e^{ϱ²T} − x₀)/(e^{ϱ²T} − 1)."""
        growth = self.sharpe**2 * self.horizon
        return self.target + (self.target - self.initial_wealth) / math.expm1(growth)

    @property
    def w(self) -> float:
        """The multiplier in force."""
        return self.exact_multiplier if self.multiplier is None else self.multiplier

    # --- answers -------------------------------------------------------------------------------

    def optimal_policy(self) -> Investment:
        """N(−(ϱ/σ)(x − w), λ/(2σ²) e^{ϱ²(T−t)})."""
        spread = self.temperature / (2 * self.volatility**2)
        return Investment(self.sharpe / self.volatility, spread, self.sharpe**2)

    def improved(self, policy: AnyInvestment) -> Investment:
        """The Gibbs policy ∝ e^{q/λ} of this one: twice from anywhere is the optimum.

        (Wang and Zhou 2020.)
        """
        spread = self.temperature / (2 * self.volatility**2)
        return Investment(self.sharpe / self.volatility, spread, -self.growth(policy))

    def growth(self, policy: AnyInvestment) -> float:
        """c = σ²K² − 2σϱK, the growth rate of E(X − w)² without exploration."""
        K = _law(policy).slope
        return self.volatility * K * (self.volatility * K - 2 * self.sharpe)

    def value(self, policy: AnyInvestment) -> "MeanVarianceValue":
        """V^π as a `Value`."""
        law = _law(policy)
        entropy_of(law.variance, self.temperature)
        return MeanVarianceValue(self, law)

    def expected_return(self, policy: AnyInvestment) -> float:
        """J(π) = V(0, x₀)."""
        start = torch.tensor([[self.initial_wealth]], dtype=torch.float64)
        return float(self.value(policy).at(start.new_zeros(1), start, None))

    def optimal_return(self) -> float:
        """J* = max J."""
        return self.expected_return(self.optimal_policy())

    def advantage_rate(self, policy: AnyInvestment, t: float, x: Array, u: Array) -> Array:
        """q = ∂V/∂t + σϱu V' + ½σ²u²V'' per unit of time; E_π[q] = −λ·entropy(π).

        = e^{cτ}[c y² − 2σϱuy − σ²u²] + σ²v e^{(c+α)τ} − λ·entropy, y = x − w and τ = T − t.
        """
        law, c, tau, y = _law(policy), self.growth(policy), self.horizon - t, x - self.w
        spread = law.variance * math.exp(law.tilt * tau)
        sigma = self.volatility
        bend = c * y**2 - 2 * sigma * self.sharpe * u * y - sigma**2 * (u**2 - spread)
        return math.exp(c * tau) * bend - self.temperature * entropy_of(spread, self.temperature)

    def terminal_moments(self, policy: AnyInvestment) -> tuple[float, float]:
        """Mean and variance of X_T."""
        law, T, y = _law(policy), self.horizon, self.initial_wealth - self.w
        mean = y * math.exp(-self.volatility * self.sharpe * law.slope * T)
        c = self.growth(law)
        noise = float(_grown(c + law.tilt, torch.tensor(T, dtype=torch.float64)))
        second = y**2 * math.exp(c * T) + self.volatility**2 * law.variance * noise
        return self.w + mean, second - mean**2

    def least_variance(self) -> float:
        """(z − x₀)²/(e^{ϱ²T} − 1): of any policy with E X_T = z. Exploration adds λT/2 to it."""
        growth = math.expm1(self.sharpe**2 * self.horizon)
        return (self.target - self.initial_wealth) ** 2 / growth

    def exploration_cost(self) -> float:
        """λT/2: what the randomness of the entropy-regularized optimum loses of the classical J*.

        Nothing of the market enters (Wang and Zhou 2020).
        """
        return 0.5 * self.temperature * self.horizon

    def problem(self, dtype: torch.dtype = torch.float64) -> ControlProblem:
        """For simulation and learning."""
        w, z = self.w, self.target

        def terminal(x: Tensor, context: Context) -> Tensor:
            return (w - z) ** 2 - (x[:, 0] - w) ** 2

        start = np.array([self.initial_wealth])
        return ControlProblem(
            sde=MultiplicativeNoiseSDE(0.0, self.volatility * self.sharpe, 0.0, self.volatility),
            reward=TerminalReward(terminal),
            initial=GaussianInitialLaw.of(start, np.zeros((1, 1)), dtype, "cpu"),
            horizon=self.horizon,
            regularizer=Entropy(self.temperature) if self.temperature else None,
        )


class MeanVarianceValue(Value):
    """V(t, x) = (w − z)² − y²e^{cτ} − σ²v(e^{(c+α)τ} − 1)/(c + α) + λ[½ log(2πe v)τ + ¼ατ²].

    y = x − w, τ = T − t, c the growth rate of the policy; derivatives by autograd are exact.
    """

    def __init__(self, market: MeanVariance, law: Investment) -> None:
        super().__init__()
        self.market, self.law = market, law

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,)."""
        market, law = self.market, self.law
        w, c, tau, y = market.w, market.growth(law), market.horizon - t, x[:, 0] - market.w
        noise = market.volatility**2 * law.variance * _grown(c + law.tilt, tau)
        entropy = entropy_of(law.variance, market.temperature) * tau + 0.25 * law.tilt * tau**2
        bonus = market.temperature * entropy
        return (w - market.target) ** 2 - y**2 * (c * tau).exp() - noise + bonus


def _grown(rate: float, tau: Tensor) -> Tensor:
    """∫₀^τ e^{rate·s}ds, accurate and differentiable in τ also at rate 0."""
    z = rate * tau
    if float(z.detach().abs().max()) < 1e-5:
        return tau * (1 + z / 2 * (1 + z / 3))
    return torch.expm1(z) / rate


def _law(policy: AnyInvestment) -> Investment:
    return policy if isinstance(policy, Investment) else policy.law()
