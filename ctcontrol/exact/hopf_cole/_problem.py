"""The linearly solvable problem, its value and its optimal action."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_kind, check_nonnegative, check_positive
from ctcontrol._estimate import Estimate
from ctcontrol._policy import GaussianPolicy
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import Reward
from ctcontrol._tensor import inner, like
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._value import Value
from ctcontrol.exact.hopf_cole._ends import LogWeight
from ctcontrol.exact.lq import GaussianInitialLaw
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array, as_matrix, as_semidefinite
from ctcontrol.exact.lq._dynamics import linear_sde


@dataclass(frozen=True, eq=False)
class HopfColeReward(Reward):
    """−½R|a|² − ½c|x|² per unit of time, and λℓ(x) at the horizon."""

    action_cost: float
    state_cost: float
    temperature: float
    end: LogWeight

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return -0.5 * (self.action_cost * inner(a, a) + self.state_cost * inner(x, x))

    def terminal(self, x: State, context: Context) -> Scalar:
        return self.temperature * self.end.log_expectation(x, torch.zeros_like(x[:, 0]))


class HopfColeValue(Value):
    """V(t, x) = λ log E[exp(−∫ₜᵀ½c|X|²/λ + h(X_T)/λ)] over X = x + σW, the optimal value.

    Derivatives are exact, by autograd.
    """

    def __init__(self, problem: "HopfCole") -> None:
        super().__init__()
        self.hopf_cole = problem

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        """V, (batch,)."""
        p = self.hopf_cole
        remaining, square = p.horizon - t, p.volatility**2
        if p.state_cost == 0:
            return p.temperature * p.end.log_expectation(x, square * remaining)
        w = p.frequency
        cosh, tanh = torch.cosh(w * remaining), torch.tanh(w * remaining)
        inside = p.end.log_expectation(x / like(cosh, x), square / w * tanh)
        decay = 0.5 * w / square * tanh * inner(x, x) + 0.5 * p.end.states * cosh.log()
        return p.temperature * (inside - decay)


@dataclass(frozen=True, eq=False, init=False)
class HopfCole:
    """max E[h(X_T) − ∫½R|u|² + ½c|X|² dt] for dX = u dt + σdW, with h = λℓ and λ = Rσ².

    Because the action's cost is the inverse of the noise, e^{V/λ} solves a linear equation, whose
    kernel is Gaussian: with c = 0 the heat kernel, otherwise Mehler's, with ω = √(c/R),

    V = λ[log E exp ℓ(x/cosh ωτ + σ(tanh ωτ/ω)^½ ξ) − ω|x|² tanh ωτ/(2σ²) − ½d log cosh ωτ].

    u* = ∇V/R, and under u* the sum h(X_T) − ∫(½R|u*|² + ½c|X|²)dt − ∫Ru*·σdW is V(0, X_0) on
    every path. (Kappen 2005; docs/theory, path KL.)

    Args:
        end: ℓ.
        volatility: σ > 0, per square root of a unit of time.
        action_cost: R > 0, reward per squared unit of action and unit of time, halved.
        state_cost: c ≥ 0, likewise of the state.
        horizon: T > 0.
        initial_mean: E X_0, (d,).
        initial_covariance: Cov X_0, (d, d) positive semidefinite; a number is that multiple of I.

    Raises:
        CtcontrolError: numbers out of range, or a start that does not fit the end.
    """

    end: LogWeight
    volatility: float
    action_cost: float
    state_cost: float
    horizon: float
    initial_mean: Array
    initial_covariance: Array

    def __init__(
        self,
        end: LogWeight,
        *,
        volatility: float,
        action_cost: float,
        state_cost: float = 0.0,
        horizon: float,
        initial_mean: Numbers,
        initial_covariance: Numbers = 0.0,
    ) -> None:
        check_kind("end", end, LogWeight, "take LogCosh, LogMixture or LogQuadratic")
        d = end.states
        spread = as_matrix("initial_covariance", initial_covariance, d)
        fields = {
            "end": end,
            "volatility": check_positive("volatility", volatility),
            "action_cost": check_positive("action_cost", action_cost),
            "state_cost": check_nonnegative("state_cost", state_cost),
            "horizon": check_positive("horizon", horizon),
            "initial_mean": as_array("initial_mean", initial_mean, (d,)),
            "initial_covariance": as_semidefinite("initial_covariance", spread, d),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @property
    def temperature(self) -> float:
        """λ = Rσ², in units of reward."""
        return self.action_cost * self.volatility**2

    @property
    def frequency(self) -> float:
        """ω = √(c/R), per unit of time."""
        return math.sqrt(self.state_cost / self.action_cost)

    def value(self) -> HopfColeValue:
        """The optimal value."""
        return HopfColeValue(self)

    def optimal_action(self, t: Time, x: State, context: Context) -> Action:
        """u* = ∇V/R, (batch, d)."""
        return self.value().gradient(t, x, context) / self.action_cost

    def optimal_policy(self) -> GaussianPolicy:
        """The deterministic policy u*."""
        return GaussianPolicy(self.optimal_action)

    def optimal_return(self) -> float:
        """V(0, x_0).

        Raises:
            CtcontrolError: a random start; average value().at over its samples.
        """
        if self.initial_covariance.any():
            raise CtcontrolError(
                "the optimal return in closed form needs a sure start, but initial_covariance is "
                "not zero; average value().at over samples of the start instead"
            )
        x = torch.tensor(self.initial_mean)[None]
        with torch.no_grad():
            return float(self.value().at(torch.zeros_like(x[:, 0]), x, None))

    def free_energy_estimate(self, ends: Tensor) -> Estimate:
        """λ log mean exp ℓ over uncontrolled ends x_0 + σW_T, (batch, d); for c = 0.

        Its standard error is λ CV/√batch to first order, CV the coefficient of variation of e^ℓ,
        and it underestimates V(0, x_0) by about λ CV²/(2 batch).

        Raises:
            CtcontrolError: a state cost, whose weight the ends alone do not tell.
        """
        if self.state_cost > 0:
            raise CtcontrolError(
                f"the ends alone do not tell the state cost, which is {self.state_cost}; set "
                "state_cost = 0"
            )
        weights = self.end.log_expectation(ends, torch.zeros_like(ends[:, 0]))
        largest = weights.max()
        relative = Estimate.of((weights - largest).exp())
        return Estimate(
            self.temperature * (float(largest) + math.log(relative.mean)),
            self.temperature * relative.stderr / relative.mean,
            relative.n,
        )

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """The same for simulation and learning."""
        eye = np.eye(self.end.states)
        return ControlProblem(
            sde=linear_sde(0 * eye, eye, self.volatility * eye, dtype, device),
            reward=HopfColeReward(self.action_cost, self.state_cost, self.temperature, self.end),
            initial=GaussianInitialLaw.of(
                self.initial_mean, self.initial_covariance, dtype, device
            ),
            horizon=self.horizon,
        )
