"""The value of a policy to a tolerance or for a budget, with an error bar that is true."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    Antithetic,
    BrownianPath,
    CtcontrolError,
    ElementwiseActionSDE,
    Estimate,
    EulerMaruyama,
    MomentMatched,
    NoiseAbsorbingPolicy,
    NoiseSource,
    Sobol,
    TimeGrid,
    WhiteNoise,
    estimate,
    of_kind,
    simulate,
)
from ctcontrol.exact import lq
from tests.helpers import seeded
from tests.tables import plant
from tests.tables.dynamics import integrator

GRID = TimeGrid.from_times([0.0, 0.1, 0.25, 0.3, 0.6, 0.8, 1.0])
POLICY = lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]], [0.1, -0.2])
FAR = plant(initial_mean=[3.0, -2.0, 1.5], initial_covariance=0.0)
"""Far from the origin the return is nearly linear in the noise, so that better noise pays."""
EXACT = FAR.chain(GRID.times.numpy()).expected_return(POLICY)


def _estimate(seed: int = 1, **options: Any) -> Estimate:
    return estimate(FAR.problem(), POLICY, GRID, generator=seeded(seed), **options)


def _returns(noise: NoiseSource | None, batch: int, seed: int) -> Tensor:
    options: dict[str, Any] = {"generator": seeded(seed), "noise": noise, "store": "none"}
    return simulate(FAR.problem(), POLICY, GRID, batch, **options).returns


@pytest.mark.parametrize(
    ("kind", "gain"),
    [
        (WhiteNoise(0), 1.0),
        (Antithetic(0), 5.0),
        (MomentMatched(0, group=64), 5.0),
        (Sobol(0), 20.0),
        (Sobol(0, construction="pca"), 15.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_error_bar_is_the_spread_over_seeds(kind: Any, gain: float) -> None:
    """One that counts each path of a pair, a group or a net as its own is `gain` times too long."""
    means, bars, naive = [], [], []
    for seed in range(40):
        noise = replace(kind, seed=seed)
        samples = _returns(noise, 1024, seed)
        found = Estimate.of(noise.replicates(samples))
        means.append(found.mean)
        bars.append(found.stderr**2)
        naive.append(Estimate.of(samples).stderr ** 2)
    spread = torch.tensor(means)
    bar, wrong = torch.tensor(bars).mean().sqrt(), torch.tensor(naive).mean().sqrt()
    assert 0.6 < float(spread.std() / bar) < 1.5  # 4 standard errors of a std from 40 samples
    assert abs(float(spread.mean()) - EXACT) < 4.5 * float(bar) / 40**0.5
    assert float(wrong / spread.std()) > 0.6 * gain


def test_it_goes_on_until_the_error_bar_is_met() -> None:
    found = _estimate(tol=0.05, batch=512)
    assert found.stderr <= 0.05
    assert found.n > 512
    assert found.path_steps == 6 * found.n
    assert abs(found.mean - EXACT) < 4.5 * found.stderr
    assert _estimate(tol=0.05, batch=512) == found
    before = _estimate(budget=found.path_steps - 1, batch=512)
    assert before.stderr > 0.05


def test_it_never_spends_more_than_the_budget() -> None:
    found = _estimate(budget=20_000, batch=512)
    assert found.path_steps == 20_000 // (512 * 6) * 512 * 6
    assert found.n == found.path_steps / 6
    both = _estimate(tol=1e-9, budget=20_000, batch=512)
    assert both == found
    assert both.stderr > 1e-9


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_sobol_points_go_on_in_the_same_net(batches: int) -> None:
    """Four batches are the points of one that is four times as large; three are a waste."""
    noise = Sobol(3)
    found = _estimate(budget=6 * 256 * (batches + 0.9), batch=256, noise=noise)
    samples = _returns(noise, 256 * batches, 1)
    whole = Estimate.of(noise.replicates(samples))
    assert found.n == 16
    assert found.path_steps == 6 * 256 * batches
    assert abs(found.mean - whole.mean) < 1e-12
    assert abs(found.stderr - whole.stderr) < 1e-12
    if batches == 2:
        assert _estimate(budget=6 * 256 * 3.5, batch=256, noise=noise).path_steps == 6 * 512


def test_sobol_points_meet_a_tolerance_after_doublings() -> None:
    found = _estimate(tol=1e-3, batch=128, noise=Sobol(3))
    assert found.stderr <= 1e-3
    assert found.n == 16
    batches = found.path_steps // (6 * 128)
    assert batches & (batches - 1) == 0
    assert abs(found.mean - EXACT) < 6 * found.stderr  # 15 degrees of freedom


@pytest.mark.parametrize("noise", [None, Antithetic(1), MomentMatched(1, group=16)])
def test_batches_are_independent(noise: NoiseSource | None) -> None:
    """The same noise in every batch would leave the mean of the first as it is."""
    one, many = (_estimate(budget=6 * 64 * k, batch=64, noise=noise) for k in (1, 50))
    assert many.n == 50 * one.n
    assert abs(many.mean - EXACT) < 5 * many.stderr
    assert many.stderr < 0.25 * one.stderr


def test_no_error_bar_of_a_few_samples_stops_it() -> None:
    assert _estimate(tol=1e9, batch=4).n == 16
    with pytest.raises(CtcontrolError, match="of 8 scrambles is too uncertain to stop by"):
        _estimate(tol=1e9, batch=64, noise=Sobol(1, scrambles=8))


def test_a_control_variate_changes_the_error_and_not_the_answer() -> None:
    wrong = FAR.value(lq.LinearGaussianPolicy([[0.24, -0.06, 0.12], [0.0, 0.3, 0.18]]))
    plain = _estimate(budget=1e5, batch=1024)
    better = _estimate(budget=1e5, batch=1024, control_variate=wrong)
    both = _estimate(budget=1e5, batch=1024, control_variate=wrong, noise=Sobol(1))
    assert better.path_steps == 6 * (32 + 16 * 1024)  # the pilot counts
    assert better.stderr < plain.stderr / 10
    assert both.stderr < better.stderr / 4
    assert abs(better.mean - EXACT) < 4.5 * better.stderr
    assert abs(both.mean - EXACT) < 6 * both.stderr


def test_the_value_of_the_chain_is_all_that_is_needed() -> None:
    value = FAR.chain(GRID.times.numpy()).value(POLICY)
    found = _estimate(tol=1e-9, batch=64, control_variate=value)
    assert found.n == 64
    assert abs(found.mean - EXACT) < 1e-10


def test_other_noise_and_policies() -> None:
    problem = integrator().problem()
    sde = of_kind(problem.sde, ElementwiseActionSDE, "the test", "")
    absorbing = NoiseAbsorbingPolicy(lambda t, x, c: -x, sde, EulerMaruyama(), GRID)
    found = estimate(problem, absorbing, GRID, budget=6 * 640, generator=seeded(1), batch=64)
    assert found.n == 640
    with pytest.raises(CtcontrolError, match="BrownianPath is the noise of one batch"):
        _estimate(budget=1e4, batch=64, noise=BrownianPath(1.0, (64, 3), seed=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "say when to stop: give tol"),
        ({"budget": 100.0}, "a budget of 100 path-steps does not pay for one batch, 196608"),
        ({"tol": 0.0}, "tol must be a finite number > 0"),
        ({"budget": float("inf")}, "budget must be a finite number > 0"),
        ({"budget": 1e6, "noise": "sobol"}, "noise must be of the kind NoiseSource, got str"),
        ({"budget": 1e6, "control_variate": 1.0}, "control_variate must be of the kind Value"),
        ({"budget": 1e6, "batch": 0}, "batch must be a whole number >= 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        _estimate(**options)
