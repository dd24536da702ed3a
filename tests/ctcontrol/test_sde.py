"""Dynamics whose volatility the action controls, and who refuses them."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    Action,
    ActionAdvantage,
    Context,
    ControlledSDE,
    ControlProblem,
    CtcontrolError,
    DiagonalVolatility,
    EulerMaruyama,
    GaussianPolicy,
    ItoAdvantage,
    NoiseAbsorbingPolicy,
    NoiseAwareFit,
    PathKL,
    PathwisePolicyGradient,
    Scalar,
    State,
    TerminalReward,
    Time,
    TimeGrid,
    Trajectory,
    Value,
    Volatility,
    simulate,
)
from tests.helpers import assert_close, assert_mean, seeded

STD = 0.5
GRID = TimeGrid.uniform(1.0, 20)


@dataclass(frozen=True)
class Lever(ControlledSDE):
    """dX = 0.3a dt + a dW: the action is a position in one asset."""

    def drift(self, t: Time, x: State, a: Action, context: Context) -> State:
        return 0.3 * a

    def volatility(self, t: Time, x: State, a: Action) -> Volatility:
        return DiagonalVolatility(a)


class Variance(Value):
    """V = (x + 0.3m(1 − t))² + (m² + s²)(1 − t): exact for h = x² under a ~ N(m, s²)."""

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        left, m = 1 - t, 0.8
        y = x[:, 0] + 0.3 * m * left
        return y**2 + (m**2 + STD**2) * left


def _mean(t: Time, x: State, context: Context) -> Tensor:
    return torch.full_like(x, 0.8)


PROBLEM = ControlProblem(
    Lever(),
    TerminalReward(lambda x, c: x[:, 0] ** 2),
    lambda n, g: (torch.full((n, 1), 0.6, dtype=torch.float64), None),
    horizon=1.0,
)
POLICY = GaussianPolicy(_mean, STD)


def _path(batch: int = 20_000) -> Trajectory:
    return simulate(PROBLEM, POLICY, GRID, batch, generator=seeded(3))


def test_the_noise_of_a_step_is_scaled_by_the_action_that_was_taken() -> None:
    path, dt = _path(), GRID.horizon / GRID.steps
    # Var(aΔW | X) = (m² + s²)Δ; with the mean action instead of the drawn one it were m²Δ.
    assert_mean(path.innovations[4] ** 2, (0.8**2 + STD**2) * dt)
    assert_close(path.states[5] - path.states[4] - 0.3 * path.actions[4] * dt, path.innovations[4])


def test_exploration_costs_at_order_one() -> None:
    truth = float(Variance().at(torch.zeros(1), torch.full((1, 1), 0.6), None))
    # The held action adds 0.3²s²Δ a step to the variance and nothing else.
    dt = GRID.horizon / GRID.steps
    assert_mean(_path(60_000).returns(), truth + 0.09 * STD**2 * dt)
    assert truth == pytest.approx(0.84**2 + 0.8**2 + STD**2, abs=1e-6)


def test_the_ito_rate_takes_the_trace_at_the_drawn_action() -> None:
    path = _path(50)
    rates = ItoAdvantage()(PROBLEM, EulerMaruyama(), Variance(), path)
    left = 1 - GRID.times[:-1].to(path.states)[:, None]
    slope = 2 * (path.states[:-1, :, 0] + 0.24 * left)
    a = path.actions[:, :, 0]
    assert_close(rates, 0.3 * (a - 0.8) * slope + a**2 - (0.8**2 + STD**2))


def test_the_noise_aware_target_keeps_its_mean() -> None:
    path = _path()
    target = NoiseAwareFit().targets(Variance(), path)
    assert_mean(target[0] - path.return_to_go()[0], 0.0)
    assert float(target[0].std()) < 0.3 * float(path.returns().std())


def test_what_drops_the_hessian_refuses_controlled_volatility() -> None:
    path, solver = _path(5), EulerMaruyama()
    message = r"ActionAdvantage takes .*UncontrolledVolatilitySDE, got Lever; .*use ItoAdvantage"
    with pytest.raises(CtcontrolError, match=message):
        ActionAdvantage()(PROBLEM, solver, Variance(), path)
    pathwise = PathwisePolicyGradient()
    with pytest.raises(CtcontrolError, match=r"PathwisePolicyGradient takes.*drops the Hessian"):
        pathwise.signal(PROBLEM, solver, Variance(), path)
    with pytest.raises(CtcontrolError, match=r"PathwisePolicyGradient takes.*drops the Hessian"):
        pathwise.loss(PROBLEM, solver, POLICY, path.transitions(signal=path.states[:-1]))


def test_what_needs_a_common_noise_refuses_controlled_volatility() -> None:
    x, t = torch.ones(3, 1), torch.zeros(3)
    law = POLICY.dist(t, x, None)
    with pytest.raises(CtcontrolError, match=r"PathKL takes.*got Lever.*use Entropy"):
        PathKL(POLICY, 0.1).amount(EulerMaruyama(), Lever(), t, t + 0.1, x, law, law.mean, None)
    with pytest.raises(CtcontrolError, match=r"NoiseAbsorbingPolicy takes.*use GaussianPolicy"):
        NoiseAbsorbingPolicy(_mean, Lever(), EulerMaruyama(), GRID)  # pyright: ignore[reportArgumentType]  # that is the mistake


def test_the_kl_of_a_step_rejects_controlled_volatility_by_type() -> None:
    """pyright reports the argument: the comment that silences it would be an error otherwise."""
    x, t = torch.ones(3, 1), torch.zeros(3)
    with pytest.raises(TypeError):
        EulerMaruyama().step_kl(Lever(), t, t + 1, x, 1 + x, x, None)  # pyright: ignore[reportArgumentType]  # that is the mistake
