"""LSTD and the method of moments: identities, error bars, and a regulator's value recovered."""

import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy, LQProblem
from tests.helpers import assert_close, normal, seeded
from tests.problems import regulator

K, k = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2
GRID = ct.TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])


def _scalar() -> tuple[LQProblem, LinearGaussianPolicy]:
    """An Ornstein–Uhlenbeck process with discount: its value is x² and 1, times functions of t."""
    problem = LQProblem(
        A=[[-0.4]], B=[[0.7]], Q=[[1.0]], R=[[0.5]], G=[[0.6]], volatility=0.8, horizon=1.0,
        initial_mean=[0.3], initial_covariance=1.0, discount=0.6,
    )  # fmt: skip
    return problem, LinearGaussianPolicy([[0.5]], std=0.3)


def _quadratic(path: ct.Trajectory, value: ct.LinearValue | None = None) -> ct.LinearValue:
    """One pair of features x², 1 at every node: the value of the chain is in the family."""
    nodes = path.grid.times[:-1]

    def features(t: Tensor, x: Tensor, context: object) -> Tensor:
        hit = ((t[:, None] - nodes).abs() < 1e-9).double()
        return torch.cat([hit * x.square(), hit], 1)

    return ct.LinearValue(features, 2 * len(nodes))


@pytest.mark.parametrize("fit", [ct.LeastSquaresTD(), ct.LeastSquaresTD(2.0), ct.LeastSquaresTD(0)])
def test_a_regulator_is_recovered_with_honest_error_bars(fit: ct.LeastSquaresTD) -> None:
    """Every coefficient of the chain's value within 4.5 of its own standard errors."""
    lq, policy = _scalar()
    grid = ct.TimeGrid.uniform(1.0, 5)
    path = ct.simulate(lq.problem(), policy, grid, 20_000, generator=seeded(1))
    found = fit.solve(_quadratic(path), path)
    exact = lq.chain(grid.times.numpy()).value_functions(policy)[:-1]
    truth = [-float(v.P[0, 0]) for v in exact] + [-float(v.c) for v in exact]
    for estimate, true in zip(found.estimates, truth, strict=True):
        assert abs(estimate.mean - true) < 4.5 * estimate.stderr
        assert estimate.stderr < 0.1
    assert_close(found.moments, 0.0, 1e-9)


def test_error_bars_are_those_of_repetition() -> None:
    lq, policy = _scalar()
    grid = ct.TimeGrid.uniform(1.0, 4)
    fits = []
    for seed in range(200):
        path = ct.simulate(lq.problem(), policy, grid, 300, generator=seeded(seed))
        value = ct.LinearValue(
            lambda t, x, c: (1 - t[:, None]) * torch.cat([x.square(), 0 * x + 1], 1),
            2,
            lambda t, x, c: -0.6 * x.square().sum(1),
        )
        fits.append(ct.LeastSquaresTD(1.0).solve(value, path))
    thetas = torch.stack([f.theta for f in fits])
    claimed = torch.stack([f.covariance for f in fits]).mean(0)
    ratio = torch.cov(thetas.mT).diagonal() / claimed.diagonal()
    assert bool(((ratio > 0.75) & (ratio < 1.3)).all())
    along = fits[0].along(torch.tensor([2.0, -1.0]))
    spread = fits[0].covariance
    by_hand = 4 * spread[0, 0] - 4 * spread[0, 1] + spread[1, 1]
    assert_close(torch.tensor(along.stderr).double() ** 2, by_hand, 1e-9)
    assert along.mean == pytest.approx(float(2 * fits[0].theta[0] - fits[0].theta[1]))


def _features(t: Tensor, x: Tensor, context: object) -> Tensor:
    return (1.2 - t[:, None]) * torch.cat([x, x.square()], 1)


def _rollout(batch: int = 50) -> tuple[ct.LinearValue, ct.Trajectory]:
    linear = regulator(kl_weight=0.5)
    policy = ct.GaussianPolicy(linear.mean(K, k), 0.4)
    path = ct.simulate(linear.problem, policy, GRID, batch, generator=seeded(3))
    return ct.LinearValue(_features, 4, lambda t, x, c: x.sum(1)), path


@pytest.mark.parametrize("decay", [0.0, 0.7, 1e5])
def test_the_backward_view_is_the_forward_view(decay: float) -> None:
    """At the fixed point the targets of `LambdaReturnFit`, regressed again, change nothing.

    The regression is weighed by e^{−ρt}Δ; without the weights another θ is found.
    """
    value, path = _rollout()
    fit = ct.LeastSquaresTD(decay).solve(value, path)
    fit.install(value)
    targets = ct.LambdaReturnFit(decay=decay).targets(value, path)
    error = targets - ct.values_along(value, path)[:-1]
    phi = ct.ParameterGradient()(value, path)
    weight = (-0.4 * GRID.times[:-1]).exp()[:, None] * path.lengths
    assert_close(torch.einsum("kb,kb,kbp->p", weight.expand_as(error), error, phi) / 50, 0.0, 1e-9)
    assert float(torch.einsum("kb,kbp->p", error, phi).abs().max()) > 1e-2


def test_the_martingale_loss_is_a_weighted_regression_of_the_return() -> None:
    """decay = 0, against a least-squares solver."""
    value, path = _rollout()
    fit = ct.LeastSquaresTD(0.0).solve(value, path)
    weight = ((-0.4 * GRID.times[:-1]).exp() * GRID.lengths).sqrt()[:, None]
    phi = (weight[..., None] * ct.ParameterGradient()(value, path)).flatten(0, 1)
    base = ct.values_along(value, path)[:-1]  # θ is still 0
    left = (weight * (path.return_to_go() - base)).flatten()
    assert_close(fit.theta, torch.linalg.lstsq(phi, left[:, None]).solution[:, 0], 1e-8)


def test_parameters_before_the_fit_make_no_difference() -> None:
    value, path = _rollout()
    before = ct.LeastSquaresTD().solve(value, path)
    torch.nn.init.constant_(value.theta, 3.0)
    assert_close(ct.LeastSquaresTD().solve(value, path).theta, before.theta, 1e-9)


def test_weights_matter_only_when_there_are_more_tests_than_parameters() -> None:
    value, path = _rollout(400)
    more = (ct.ParameterGradient(), ct.StateFunctions(lambda t, x, c: torch.cat([x, x**2], 1)))

    def thetas(tests: tuple[ct.TestFunction, ...]) -> list[Tensor]:
        weightings = ("identity", "projected", "optimal")
        return [ct.GeneralizedMoments(tests, w).solve(value, path).theta for w in weightings]

    just = thetas(more[:1])
    assert_close(just[1], just[0], 1e-7)
    assert_close(just[2], just[0], 1e-7)
    over = thetas(more)
    assert float((over[1] - over[0]).abs().max()) > 1e-3
    assert float((over[2] - over[0]).abs().max()) > 1e-3


def test_the_optimal_weight_has_the_smallest_error_bars() -> None:
    value, path = _rollout(2000)
    tests = (ct.ParameterGradient(), ct.StateFunctions(lambda t, x, c: torch.cat([x, x**2], 1)))
    spread = {
        w: ct.GeneralizedMoments(tests, w).solve(value, path).covariance.diagonal()
        for w in ("identity", "projected", "optimal")
    }
    for other in ("identity", "projected"):
        assert bool((spread["optimal"] <= 1.1 * spread[other]).all())
    assert float(spread["optimal"].sum()) < 0.75 * float(spread["identity"].sum())


def test_what_cannot_be_solved_is_named() -> None:
    value, path = _rollout()
    few = ct.StateFunctions(lambda t, x, c: x[:, :1])
    with pytest.raises(ct.CtcontrolError, match=r"4 parameters need as many test.*got 1 and 50"):
        ct.GeneralizedMoments((few,)).solve(value, path)
    twice = ct.LinearValue(lambda t, x, c: torch.cat([x, x], 1), 4)
    with pytest.raises(ct.CtcontrolError, match=r"cannot be told apart.*drop a feature"):
        ct.LeastSquaresTD().solve(twice, path)
    with pytest.raises(ct.CtcontrolError, match="needs a LinearValue, got Network"):
        ct.LeastSquaresTD().solve(Network(), path)
    with pytest.raises(ct.ShapeError, match=r"features must return shape \(200, 3\).*\(200, 2\)"):
        ct.LeastSquaresTD().solve(ct.LinearValue(lambda t, x, c: x, 3), path)
    with pytest.raises(ct.CtcontrolError, match="tests is empty"):
        ct.GeneralizedMoments(())
    with pytest.raises(ct.CtcontrolError, match="weighting must be identity, projected or optimal"):
        ct.GeneralizedMoments(weighting="best")  # type: ignore[arg-type]  # that is the mistake
    for bad in (ct.LeastSquaresTD, ct.EligibilityTrace):
        with pytest.raises(ct.CtcontrolError, match="decay must be a finite number >= 0, got -1"):
            bad(-1.0)


class Network(ct.Value):
    """Not linear."""

    def at(
        self, t: ct.Time, x: ct.State, context: object, mean: ct.Action | None = None
    ) -> ct.Scalar:
        return x.sum(1)
