"""The Ornstein–Uhlenbeck process as a control problem, and its laws."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.polynomial import hermite_e
from torch import Tensor

from ctcontrol._checks import CtcontrolError, check_count, check_nonnegative, check_positive
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import Reward
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol.exact.lq import GaussianInitialLaw, LinearGaussianPolicy
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array
from ctcontrol.exact.lq._dynamics import linear_sde
from ctcontrol.exact.ou._value import HermiteValue


@dataclass(frozen=True, eq=False)
class PolynomialReward(Reward):
    """r = Σ_j p_j x^j per unit of time and h = Σ_j q_j x^j at the horizon, for states (batch, 1).

    Attributes:
        rate: p, (degree + 1,).
        end: q, (degree + 1,).
    """

    rate: Array
    end: Array

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return _polynomial(self.rate, x)

    def terminal(self, x: State, context: Context) -> Scalar:
        return _polynomial(self.end, x)


@dataclass(frozen=True, eq=False, init=False)
class OrnsteinUhlenbeck:
    """dX = (−kX + u)dt + σdW with u = 0: the value of polynomial rewards, without control.

    With z = x√(2k)/σ, L He_n = −nk He_n: r = He_n(z) has the value He_n/(ρ + nk) without a
    horizon, h = He_n(z) the value e^{−(ρ + nk)(T − t)}He_n. Polynomials are sums of these. The
    action u enters the drift so that advantage rates, u·∂V/∂x, can be held against the truth.
    (docs/theory, advantage rate.)

    Args:
        rate: k > 0, per unit of time.
        volatility: σ > 0, per square root of a unit of time.
        running: r's coefficients of x⁰, x¹, …, per unit of time.
        terminal: h's coefficients of x⁰, x¹, …; for problems with a horizon.
        discount: ρ ≥ 0, per unit of time; > 0 without a horizon.
        horizon: T, or None for a discounted problem without one.
        initial_mean: E X_0.
        initial_variance: Var X_0 of a Gaussian start.

    Raises:
        CtcontrolError: numbers out of range, no discount and no horizon, or a terminal reward
            without a horizon.
    """

    rate: float
    volatility: float
    running: Array
    terminal: Array
    discount: float
    horizon: float | None
    initial_mean: float
    initial_variance: float

    def __init__(
        self,
        *,
        rate: float,
        volatility: float,
        running: Numbers = (0.0,),
        terminal: Numbers = (0.0,),
        discount: float = 0.0,
        horizon: float | None = None,
        initial_mean: float = 0.0,
        initial_variance: float = 0.0,
    ) -> None:
        fields = {
            "rate": check_positive("rate", rate),
            "volatility": check_positive("volatility", volatility),
            "running": _coefficients("running", running),
            "terminal": _coefficients("terminal", terminal),
            "discount": check_nonnegative("discount", discount),
            "horizon": horizon if horizon is None else check_positive("horizon", horizon),
            "initial_mean": float(as_array("initial_mean", initial_mean, ())),
            "initial_variance": check_nonnegative("initial_variance", initial_variance),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if horizon is None and discount == 0:
            raise CtcontrolError(
                "without a horizon the discount must be > 0, got 0; give a horizon or a discount"
            )
        if horizon is None and self.terminal.any():
            raise CtcontrolError("a terminal reward needs a horizon, got horizon = None")

    @property
    def scale(self) -> float:
        """ℓ = σ/√(2k), the standard deviation of the stationary law."""
        return self.volatility / math.sqrt(2 * self.rate)

    @cached_property
    def _series(self) -> tuple[Array, Array, Array]:
        """Hermite coefficients of r/(rate of decay) and of h, and the rates ρ + nk."""
        running, terminal = self._hermite(self.running), self._hermite(self.terminal)
        size = max(len(running), len(terminal))
        r, h = (np.pad(c, (0, size - len(c))) for c in (running, terminal))
        rates = self.discount + self.rate * np.arange(size)
        return r, h, rates

    def value(self) -> HermiteValue:
        """V of u = 0, with exact derivatives.

        Raises:
            CtcontrolError: no discount and a running reward with a mean: its value grows like
                T − t, which is no sum of exponentials.
        """
        r, h, rates = self._series
        if rates[0] == 0 and abs(r[0]) > 1e-14 * np.abs(r).max():
            raise CtcontrolError(
                "without a discount a running reward of non-zero stationary mean "
                f"{r[0]:.4g} adds up linearly in time; subtract that mean, or set a discount"
            )
        lasting = np.divide(r, rates, out=np.zeros_like(r), where=rates > 0)
        return HermiteValue(self.scale, lasting, h, rates, self.horizon)

    def expected_return(self) -> float:
        """J = E V(0, X_0)."""
        r, h, rates = self._series
        T = self.horizon
        fading = np.zeros_like(rates) if T is None else np.exp(-rates * T)
        spent = np.divide(1 - fading, rates, out=np.full_like(rates, T or 0.0), where=rates > 0)
        return float((r * spent + h * fading) @ self._start_hermite(len(rates)))

    def moments(self, t: float) -> tuple[float, float]:
        """Mean and variance of X_t."""
        decay = math.exp(-self.rate * check_nonnegative("t", t))
        spread = self.scale**2 * -math.expm1(-2 * self.rate * t)
        return self.initial_mean * decay, self.initial_variance * decay**2 + spread

    def occupation_moment(self, power: int) -> float:
        """E[x^power] under the normalized occupation law ρ∫e^{−ρt}·law(X_t)dt.

        E He_n(z) = ρ/(ρ + nk) E He_n(z_0): for a sure start E x = ρx_0/(ρ + k) and
        E x² = (ρx_0² + σ²)/(ρ + 2k).

        Raises:
            CtcontrolError: no discount, so that there is no such law, or a power that is not a
                whole number >= 0.
        """
        self._check_occupation()
        check_count("power", power, least=0)
        series = self._hermite(np.eye(power + 1)[power])
        share = self.discount / (self.discount + self.rate * np.arange(power + 1))
        return float((series * share) @ self._start_hermite(power + 1))

    def sample_occupation(
        self, batch: int, generator: torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Tensor:
        """Exact draws from the normalized occupation law, (batch, 1): X at an Exp(ρ) time.

        Raises:
            CtcontrolError: no discount, so that there is no such law.
        """
        self._check_occupation()
        check_count("batch", batch)
        device = generator.device
        t = torch.empty(batch, 1, dtype=dtype, device=device).exponential_(generator=generator)
        decay = torch.exp(-self.rate * t / self.discount)
        noise = torch.randn(2, batch, 1, dtype=dtype, device=device, generator=generator)
        start = self.initial_mean + math.sqrt(self.initial_variance) * noise[0]
        return start * decay + self.scale * torch.sqrt(1 - decay**2) * noise[1]

    def policy(self) -> LinearGaussianPolicy:
        """u = 0."""
        return LinearGaussianPolicy([[0.0]])

    def problem(
        self,
        horizon: float | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> ControlProblem:
        """For simulation and learning, with actions (batch, 1).

        A problem without a horizon is cut at `horizon`, where its own value is paid, so that the
        return is still exactly V.

        Raises:
            CtcontrolError: no horizon here nor there, or two that differ.
        """
        end = self.horizon if horizon is None else horizon
        if end is None or (self.horizon is not None and end != self.horizon):
            raise CtcontrolError(
                f"a simulation needs one horizon: the problem has {self.horizon}, problem() was "
                f"given {horizon}"
            )
        last = self.terminal
        if self.horizon is None:
            r, _, rates = self._series
            last = hermite_e.herme2poly(r / rates) / self.scale ** np.arange(len(r))
        mean, variance = np.array([self.initial_mean]), np.array([[self.initial_variance]])
        return ControlProblem(
            sde=linear_sde(
                np.array([[-self.rate]]), np.eye(1), self.volatility * np.eye(1), dtype, device
            ),
            reward=PolynomialReward(self.running, last),
            initial=GaussianInitialLaw.of(mean, variance, dtype, device),
            horizon=end,
            discount=self.discount,
        )

    def _hermite(self, polynomial: Array) -> Array:
        """Coefficients of He_n(x/ℓ) from those of x^j."""
        return hermite_e.poly2herme(polynomial * self.scale ** np.arange(len(polynomial)))

    def _start_hermite(self, size: int) -> Array:
        """E He_n(X_0/ℓ) for n < size, by Gauss–Hermite quadrature, exact for polynomials."""
        nodes, weights = hermite_e.hermegauss(size // 2 + 1)
        x = self.initial_mean + math.sqrt(self.initial_variance) * nodes
        table = hermite_e.hermevander(x / self.scale, size - 1)
        return weights @ table / weights.sum()

    def _check_occupation(self) -> None:
        if self.discount == 0:
            raise CtcontrolError(
                "the discounted occupation law needs a discount > 0, got 0; set a discount"
            )


def _coefficients(name: str, value: Numbers) -> Array:
    array = as_array(name, value)
    if array.ndim != 1 or len(array) == 0:
        raise CtcontrolError(
            f"{name} must be the coefficients of 1, x, x², …, a vector, got shape {array.shape}"
        )
    return array


def _polynomial(coefficients: Array, x: Tensor) -> Tensor:
    """Σ c_j x^j by Horner's rule; (batch, 1) -> (batch,)."""
    y = torch.zeros_like(x[:, 0])
    for c in coefficients[::-1].tolist():
        y = y * x[:, 0] + c
    return y
