"""Linear-quadratic problems and Merton's portfolio, learned by policies of the optimum's form."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ctcontrol import (
    Context,
    Estimate,
    LinearValue,
    Policy,
    State,
    Time,
    TimeGrid,
    action_as_state,
)
from ctcontrol.exact.lq import LinearGaussianLaw, LinearGaussianPolicy, LQProblem, StationaryLQ
from ctcontrol.exact.portfolio import Fraction, FractionPolicy, MertonLog
from validation.lessons.course import Course


class Slopes(nn.Module):
    """Coefficients of a rate, affine in (t, x); 0 at first."""

    def __init__(self, d: int, outputs: int) -> None:
        super().__init__()
        self.map = nn.Linear(d + 1, outputs, dtype=torch.float64)
        nn.init.zeros_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.map(torch.cat([t[:, None], x], 1))


def quadratic_value(d: int, G: np.ndarray) -> LinearValue:
    """−xᵀGx + Σ_j θ_j (1 − t)φ_j and (1 − t)²φ_j, φ all monomials of degree two at most."""
    rows, columns = torch.triu_indices(d, d)
    bend = torch.tensor(G)

    def features(t: Time, x: State, context: Context) -> Tensor:
        phi = torch.cat([x[:, rows] * x[:, columns], x, torch.ones_like(x[:, :1])], 1)
        left = (1 - t)[:, None]
        return torch.cat([left * phi, left**2 * phi], 1)

    def base(t: Time, x: State, context: Context) -> Tensor:
        return -torch.einsum("bi,ij,bj->b", x, bend, x)

    return LinearValue(features, 2 * (len(rows) + d + 1), base)


def stationary(d: int, temperature: float) -> LQProblem:
    """Coupled unstable states, one action each; its optimal gain is constant in time.

    The terminal cost solves the algebraic Riccati equation, so that constant gains lose nothing.
    """
    draw = np.random.default_rng(d)
    A = 0.3 * np.eye(d) + 0.6 / d**0.5 * draw.standard_normal((d, d))
    half = draw.standard_normal((d, d))
    settings: dict[str, Any] = {
        "A": A,
        "B": np.eye(d),
        "Q": np.eye(d) + 0.5 / d * half @ half.T,
        "R": 0.5 * np.eye(d),
        "volatility": 0.5,
        "horizon": 1.0,
        "initial_mean": np.full(d, 0.5),
        "initial_covariance": 0.5,
        "discount": 0.3,
        "temperature": temperature,
    }
    draft = LQProblem(**settings, G=np.zeros((d, d)))
    endless = StationaryLQ(draft)
    return LQProblem(**settings, G=endless.value(endless.optimal_policy()).P)


def exactly(lq: LQProblem) -> Callable[[Policy], Estimate]:
    """The regret by the policy's Riccati equation."""
    best = lq.optimal_return()

    def of(policy: Policy) -> Estimate:
        assert isinstance(policy, LinearGaussianPolicy)
        law = policy.law()
        if lq.temperature == 0:
            law = LinearGaussianLaw(law.gain, law.offset)
        return Estimate(best - lq.expected_return(law), 0.0, 1)

    return of


def regulator(d: int, iterations: int, batch: int, bound: float) -> Course:
    """From no gain at all."""
    cold, warm = stationary(d, 0.0), stationary(d, 0.2)
    nothing, grid = np.zeros((d, d)), TimeGrid.uniform(1.0, 20)

    def course(lq: LQProblem, **changes: Any) -> Course:
        settings: dict[str, Any] = {
            "title": f"LQ, {d} states",
            "problem": lq.problem(),
            "grid": grid,
            "policy": lambda seed: LinearGaussianPolicy(
                nothing, std=0.7, learn_std=lq.temperature > 0
            ),
            "value": lambda seed: quadratic_value(d, cold.G),
            "slopes": lambda seed: Slopes(d, d),
            "regret": exactly(lq),
            "bound": bound,
            "batch": batch,
            "iterations": iterations,
            "rates": (0.03, 0.05),
            "finer": 4,
        }
        return Course(**(settings | changes))

    return course(cold, variants={"warm": course(warm), "moving": course(cold, **_moving(cold))})


def _moving(lq: LQProblem, cost: float = 0.1, spread: float = 0.3) -> dict[str, Any]:
    """Actions that diffuse: z = (x, a) is a linear-quadratic problem again, of twice the size."""
    d, none, eye = lq.states, np.zeros((lq.states, lq.states)), np.eye(lq.states)
    start = LinearGaussianPolicy(none, std=0.5)
    augmented = LQProblem(
        A=np.block([[lq.A, lq.B], [none, none]]),
        B=np.vstack([none, eye]),
        Q=np.block([[lq.Q, none], [none, lq.R]]),
        R=0.5 * cost * eye,
        G=np.block([[lq.G, none], [none, none]]),
        volatility=np.block([[lq.volatility, none], [none, spread * eye]]),
        horizon=lq.horizon,
        initial_mean=np.concatenate([lq.initial_mean, np.zeros(d)]),
        initial_covariance=np.block([[lq.initial_covariance, none], [none, 0.25 * eye]]),
        discount=lq.discount,
    )
    pieces = 10
    return {
        "problem": action_as_state(
            lq.problem(), start, states=d, action_volatility=spread, control_cost=cost
        ),
        "policy": lambda seed: LinearGaussianPolicy(
            np.zeros((pieces, d, 2 * d)), std=0.7, times=np.linspace(0, 1, pieces + 1)
        ),
        "value": lambda seed: quadratic_value(2 * d, augmented.G),
        "regret": exactly(augmented),
    }


def merton(iterations: int, batch: int, bound: float) -> Course:
    """The fraction of wealth and its exploration, logarithm of wealth as the state."""
    market = MertonLog(drift=0.35, rate=0.05, volatility=0.4, horizon=1.0, temperature=0.1)

    def of(policy: Policy) -> Estimate:
        assert isinstance(policy, FractionPolicy)
        return Estimate(market.optimal_return() - market.expected_return(policy), 0.0, 1)

    return Course(
        title="Merton, log utility",
        problem=market.log_problem(),
        grid=TimeGrid.uniform(1.0, 10),
        policy=lambda seed: FractionPolicy(Fraction(0.5, 1.5)),
        value=lambda seed: LinearValue(
            lambda t, x, c: (1 - t)[:, None], 1, lambda t, x, c: x[:, 0]
        ),
        slopes=lambda seed: Slopes(1, 2),
        regret=of,
        bound=bound,
        batch=batch,
        iterations=iterations,
        rates=(0.03, 0.03),
        variants={"moving": "no closed form of the portfolio whose fraction is a state"},
    )
