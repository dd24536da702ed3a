"""Orders of convergence, strong and weak, on paths that all grids share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    Action,
    BrownianPath,
    ControlledSDE,
    ControlProblem,
    DiagonalVolatility,
    ElementwiseActionSDE,
    EulerMaruyama,
    GaussianPolicy,
    Scalar,
    State,
    TerminalReward,
    Time,
    TimeGrid,
    Volatility,
    simulate,
)
from tests.helpers import assert_close, seeded, slope
from tests.problems import Isotropic, constant

BATCH = 2000
STEPS = [4, 8, 16, 32, 64]


class Geometric(ElementwiseActionSDE):
    """dX = a X dt + σ X dW, whose solution is known path by path."""

    def free_drift(self, t: Time, x: State, context: object) -> State:
        return 0.3 * x

    def action_gain(self, t: Time) -> Scalar:
        return torch.ones_like(t)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return DiagonalVolatility(0.5 * x)


def _final(sde: ControlledSDE, steps: int, seed: int = 1) -> Tensor:
    problem = ControlProblem(
        sde,
        TerminalReward(lambda x, c: x[:, 0]),
        lambda n, g: (torch.ones(n, 1, dtype=torch.float64), None),
        horizon=1.0,
    )
    policy = GaussianPolicy(lambda t, x, c: torch.zeros_like(x))
    path = simulate(
        problem,
        policy,
        TimeGrid.uniform(1.0, steps),
        BATCH,
        generator=seeded(),
        noise=BrownianPath(1.0, (BATCH, 1), seed=seed),
    )
    return path.final[:, 0]


def _errors(
    sde: ControlledSDE, exact: Tensor, measure: Callable[[Tensor, Tensor], Tensor]
) -> list[float]:
    return [float(measure(_final(sde, n), exact)) for n in STEPS]


def _strong(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean()


def _weak(x: Tensor, y: Tensor) -> Tensor:
    return (x.square() - y.square()).mean()  # the same path, so most of the noise cancels


OU = Isotropic(constant(-1.5), constant(1.0), constant(0.8))


@pytest.fixture(scope="module")
def ornstein_uhlenbeck() -> Tensor:
    """X_1 by a grid so fine that its error is a tenth of that of the finest grid under test."""
    return _final(OU, 1024)


def test_strong_order_one_for_additive_noise(ornstein_uhlenbeck: Tensor) -> None:
    errors = _errors(OU, ornstein_uhlenbeck, _strong)
    assert abs(slope(STEPS, errors) + 1.0) < 0.15


def test_weak_order_one(ornstein_uhlenbeck: Tensor) -> None:
    errors = _errors(OU, ornstein_uhlenbeck, _weak)
    assert abs(slope(STEPS, errors) + 1.0) < 0.2


def test_the_limit_is_the_solution(ornstein_uhlenbeck: Tensor) -> None:
    """Mean e^{−1.5}, variance 0.64(1 − e^{−3})/3: the noise enters once, with the square root."""
    x, n = ornstein_uhlenbeck, BATCH**0.5
    mean, variance = 0.22313016, 0.64 * (1 - 0.04978707) / 3
    assert abs(float(x.mean()) - mean) < 5 * variance**0.5 / n
    assert abs(float(x.var()) / variance - 1) < 5 * 2**0.5 / n


def test_strong_order_half_for_multiplicative_noise() -> None:
    w = BrownianPath(1.0, (BATCH, 1), seed=1).increment(0.0, 1.0, torch.empty(BATCH, 1).double())
    exact = torch.exp(0.3 - 0.125 + 0.5 * w[:, 0])
    errors = _errors(Geometric(), exact, _strong)
    assert abs(slope(STEPS, errors) + 0.5) < 0.1
    assert abs(slope(STEPS, _errors(Geometric(), exact, lambda x, y: (x - y).mean())) + 1) < 0.4


def test_only_a_scalar_volatility_can_be_absorbed() -> None:
    t = torch.zeros(1, dtype=torch.float64)
    with pytest.raises(TypeError, match=r"only the noise of a scalar.*got DiagonalVolatility"):
        EulerMaruyama().absorbing_std(Geometric(), t, t + 0.1)


def test_absorbing_std_by_hand() -> None:
    """1/(g √Δ) for a reverse diffusion, whose gain is the square of its volatility."""
    g = 1.7
    sde = Isotropic(constant(0.0), constant(g**2), constant(g))
    t0 = torch.tensor([0.0, 0.5]).double()
    std = EulerMaruyama().absorbing_std(sde, t0, t0 + torch.tensor([0.1, 0.02]).double())
    assert_close(std, 1 / (g * torch.tensor([0.1, 0.02]).double().sqrt()))
