"""What finds the value of Brownian motion with terminal reward x², and what does not.

The family V = x² + (T − t)(1 + θx) holds the truth, θ = 0. The mean-square temporal-difference
error, which is not in the library, is made here to be seen wrong: its minimiser tends to
−3x₀/T. In the family V = x² + (T − t)(1 + θx²) the one-step residual is wrong too, without end.
"""

import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from tests.helpers import assert_close, seeded, slope
from tests.problems import Isotropic, constant

START = 0.8


def _problem(start: float = START) -> ct.ControlProblem:
    x0 = torch.full((1, 1), start, dtype=torch.float64)
    return ct.ControlProblem(
        Isotropic(constant(0.0), constant(0.0), constant(1.0)),
        ct.TerminalReward(lambda x, c: x.square().sum(1)),
        lambda n, g: (x0.expand(n, 1), None),
        1.0,
    )


def _family(power: int) -> ct.LinearValue:
    return ct.LinearValue(
        lambda t, x, c: (1 - t[:, None]) * x**power,
        1,
        lambda t, x, c: x.square().sum(1) + 1 - t,
    )


def _path(steps: int, paths: int, seed: int = 1) -> ct.Trajectory:
    policy = ct.GaussianPolicy(lambda t, x, c: 0 * x)
    grid = ct.TimeGrid.uniform(1.0, steps)
    return ct.simulate(_problem(), policy, grid, paths, generator=seeded(seed))


def _quadratic_minimum(value: ct.LinearValue, loss: ct.Critic | None, path: ct.Trajectory) -> float:
    """The minimiser of a loss that is a parabola in θ, by Newton's method from θ = 0."""
    with torch.no_grad():
        value.theta.zero_()
    if loss is None:
        error = _mean_square_temporal_difference(value, path)
    else:
        error = loss.loss(value, loss.rows(value, path))
    (first,) = torch.autograd.grad(error, value.theta, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), value.theta)
    return float(-first.detach() / second)


def _mean_square_temporal_difference(value: ct.LinearValue, path: ct.Trajectory) -> Tensor:
    v = [value.at(path.times(k), path.states[k], None) for k in range(path.steps)]
    v = torch.stack([*v, path.terminal])
    return (v[1:] - v[:-1]).square().sum(0).mean()


@pytest.mark.parametrize(("steps", "expected"), [(10, -1.83), (40, -2.24), (160, -2.36)])
def test_the_mean_square_temporal_difference_error_is_wrong(steps: int, expected: float) -> None:
    """−3x₀/T = −2.4 in the limit, when the truth is 0."""
    found = _quadratic_minimum(_family(1), None, _path(steps, 10_000))
    assert abs(found - expected) < 0.06
    assert -3 * START < found < -1.7


SOLVERS = {
    "LSTD": ct.LeastSquaresTD(),
    "LSTD(λ)": ct.LeastSquaresTD(decay=3.0),
    "martingale loss": ct.LeastSquaresTD(decay=0.0),
    "moments": ct.GeneralizedMoments(
        (ct.StateFunctions(lambda t, x, c: torch.cat([0 * x + 1, x, t[:, None] * x], 1)),),
        weighting="optimal",
    ),
    "projected": ct.GeneralizedMoments(
        (ct.StateFunctions(lambda t, x, c: torch.cat([x, x.square()], 1)),), weighting="projected"
    ),
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("power", [1, 2])
def test_solving_for_the_martingale_is_right(name: str, power: int) -> None:
    """θ = 0 within its own error bar, which is small enough to tell it from the wrong ones."""
    fit = SOLVERS[name].solve(_family(power), _path(20, 10_000, seed=2))
    (estimate,) = fit.estimates
    assert abs(estimate.mean) < 4.5 * estimate.stderr
    assert estimate.stderr < 0.1
    assert estimate.n == 10_000


@pytest.mark.parametrize("decay", [None, 0.0, 3.0])
@pytest.mark.parametrize("power", [1, 2])
def test_fitting_targets_is_right(decay: float | None, power: int) -> None:
    """Monte Carlo, TD and noise-aware targets at the truth: the regression stays there."""
    value, path = _family(power), _path(20, 20_000, seed=3)
    critics: list[ct.Critic] = [ct.NoiseAwareFit(decay=decay or 0.0)]
    critics += [ct.TemporalDifferenceFit()] if decay is None else [ct.LambdaReturnFit(decay=decay)]
    for critic in critics:
        target = critic.targets(value, path)
        truth = ct.values_along(value, path)[:-1]
        phi = (1 - path.grid.times[:-1, None]) * path.states[:-1, :, 0] ** power
        push = (phi * (target - truth)).mean(0)
        gap = float(push.mean() / push.std()) * 20_000**0.5
        assert abs(gap) < 4.5


def test_noise_aware_fits_are_far_sharper_than_monte_carlo() -> None:
    value, path = _family(1), _path(40, 4000, seed=4)
    truth = ct.values_along(value, path)[:-1]
    spread = [
        float((critic.targets(value, path) - truth).square().mean())
        for critic in (ct.MonteCarloFit(), ct.NoiseAwareFit())
    ]
    assert spread[1] < 0.05 * spread[0]


def test_the_bias_of_the_one_step_residual_does_not_vanish() -> None:
    """The minimiser of ∫E[(drift)² + ½(V_xx)²]dt: θ = −T²/(A + ⅔T³), A = ∫E(T − t − X²)²dt."""
    x2 = START**2
    # E(τ − X²)² with τ = 1 − t, X ~ N(x₀, t)
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)
    tau, second, fourth = 1 - t, x2 + t, x2**2 + 6 * x2 * t + 3 * t**2
    limit = -1 / float(torch.trapezoid(tau**2 - 2 * tau * second + fourth, t) + 2 / 3)
    assert limit < -0.2
    found = [
        _quadratic_minimum(_family(2), ct.OneStepResidualFit(), _path(n, 8000, seed=5))
        for n in (40, 120)
    ]
    assert abs(found[1] - limit) < 0.03
    # in a family that cannot trade curvature for drift there is no bias
    sharp = _quadratic_minimum(_family(1), ct.OneStepResidualFit(), _path(40, 20_000, seed=6))
    assert abs(sharp) < 0.02


def test_the_residual_vanishes_at_the_truth_like_the_step() -> None:
    """Its loss is O(Δ²) there, when that of temporal differences is O(Δ)."""
    value, sizes, losses = _family(1), [10, 20, 40], []
    for n in sizes:
        path = _path(n, 2000, seed=7)
        critic = ct.OneStepResidualFit()
        losses.append(float(critic.loss(value, critic.rows(value, path)).detach()))
    assert abs(slope(sizes, losses) + 2) < 0.1


def test_the_gradient_of_the_residual_goes_through_all_three_values() -> None:
    value, path, critic = _family(1), _path(5, 50, seed=8), ct.OneStepResidualFit()
    (slope_,) = torch.autograd.grad(critic.loss(value, critic.rows(value, path)), value.theta)
    rise = []
    for theta in (1e-5, -1e-5):
        with torch.no_grad():
            value.theta.fill_(theta)
        rise.append(critic.loss(value, critic.rows(value, path)).detach())
    assert_close(slope_[0], (rise[0] - rise[1]) / 2e-5, 1e-7)
