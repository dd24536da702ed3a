"""Multilevel Monte Carlo: right, honest about its bias, and cheaper than one grid."""

import pytest

from ctcontrol import (
    CtcontrolError,
    ElementwiseActionSDE,
    EulerMaruyama,
    NoiseAbsorbingPolicy,
    TimeGrid,
    estimate,
    multilevel,
    of_kind,
)
from ctcontrol._multilevel import _Level
from ctcontrol.exact import lq
from tests.helpers import seeded
from tests.tables import plant
from tests.tables.dynamics import integrator

PLANT = plant()
POLICY = lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]], [0.1, -0.2])
EXACT = PLANT.expected_return(POLICY)


def _chain(grid: TimeGrid) -> float:
    return PLANT.chain(grid.times.numpy()).expected_return(POLICY)


@pytest.mark.parametrize(("refine", "seed"), [(2, 1), (4, 2)])
def test_it_finds_the_value_in_continuous_time(refine: int, seed: int) -> None:
    tol = 4e-3
    found = multilevel(
        PLANT.problem(), POLICY, tol=tol, refine=refine, generator=seeded(seed), pilot=256
    )
    assert found.stderr <= tol / 2**0.5 * 1.05
    assert found.bias <= tol / 2**0.5
    assert abs(found.mean - EXACT) < 4.5 * found.stderr + tol / 2**0.5


@pytest.mark.parametrize("std", [0.0, 0.4])
def test_levels_telescope_to_the_finest_grid(std: float) -> None:
    """On any grid, and with actions that are not shared: no bias but that of the last grid."""
    coarsest = TimeGrid.from_times([0.0, 0.3, 0.5, 1.0])
    policy = lq.LinearGaussianPolicy([[0.4, -0.1, 0.2], [0.0, 0.5, 0.3]], [0.1, -0.2], std=std)
    found = multilevel(
        PLANT.problem(), policy, tol=0.01, levels=3, coarsest=coarsest, generator=seeded(3)
    )
    finest = PLANT.chain(coarsest.refine(2).refine(2).times.numpy()).expected_return(policy)
    assert abs(found.mean - finest) < 4.5 * found.stderr


def test_the_bias_is_what_the_next_levels_would_add() -> None:
    found = multilevel(PLANT.problem(), POLICY, tol=0.01, levels=3, generator=seeded(4))
    missing = abs(_chain(TimeGrid.uniform(1.0, 16)) - EXACT)
    assert 0.5 * missing < found.bias < 4 * missing + 3 * found.stderr


def test_both_grids_see_the_same_path() -> None:
    """Var(P_l − P_{l−1}) falls fourfold a level: the noise is additive and coarse = sum of fine."""
    variances = []
    for steps in (4, 8, 16):
        coarse = TimeGrid.uniform(1.0, steps)
        level = _Level(PLANT.problem(), POLICY, coarse.refine(2), coarse, None, 3000)
        level.run(4000, seeded(5))  # in two parts
        assert level.tally.n == 4000
        assert level.cost == 3 * steps
        truth = _chain(coarse.refine(2)) - _chain(coarse)
        bar = (level.tally.variance / 4000) ** 0.5
        assert abs(level.tally.mean - truth) < 4.5 * bar
        variances.append(level.tally.variance)
    assert 3.2 < variances[0] / variances[1] < 5
    assert 3.2 < variances[1] / variances[2] < 5


def test_it_costs_less_than_one_grid() -> None:
    """In path-steps, for the same error: what coarse paths save grows as 1/tol."""
    tol = 1.5e-3
    levels = multilevel(PLANT.problem(), POLICY, tol=tol, generator=seeded(6), pilot=256)
    steps = 4
    while abs(_chain(TimeGrid.uniform(1.0, steps)) - EXACT) > tol / 2**0.5:
        steps *= 2
    grid = TimeGrid.uniform(1.0, steps)
    plain = estimate(
        PLANT.problem(), POLICY, grid, budget=2048 * steps, generator=seeded(7), batch=2048
    )
    paths = plain.n * plain.stderr**2 / (tol**2 / 2)
    assert levels.path_steps < steps * paths / 4


def test_what_cannot_share_a_path_is_refused() -> None:
    problem, grid = integrator().problem(), TimeGrid.uniform(1.0, 4)
    sde = of_kind(problem.sde, ElementwiseActionSDE, "the test", "")
    absorbing = NoiseAbsorbingPolicy(lambda t, x, c: -x, sde, EulerMaruyama(), grid)
    with pytest.raises(CtcontrolError, match="cannot share a Brownian path between two grids"):
        multilevel(problem, absorbing, tol=0.1, generator=seeded(1))
    with pytest.raises(CtcontrolError, match="levels must be a whole number >= 3"):
        multilevel(problem, POLICY, tol=0.1, levels=2, generator=seeded(1))
