"""Ten seeds of a linear-quadratic study as one: what they cost over a single one."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks import measure
from benchmarks.cases import Case
from benchmarks.models import Linear
from benchmarks.rivals._torch import dtype_of
from benchmarks.rivals.ours import lq
from ctcontrol import (
    ControlProblem,
    MonteCarloAdvantage,
    Policy,
    PolicyEnsemble,
    PolicyGradient,
    TimeGrid,
    Updater,
    improve,
    simulate,
)
from ctcontrol.exact.lq import LinearGaussianPolicy

SEEDS = 10
STUDIES = ("evaluation", "training")


def ensembles(case: Case) -> Iterator[dict[str, Any]]:
    """Returns of policies that explore, and iterations of a policy gradient; CPU seconds."""
    model, dtype = case.model, dtype_of(case)
    assert isinstance(model, Linear)
    problem = lq(case).problem(dtype)
    policies = [
        LinearGaussianPolicy(model.K * (1 - 0.02 * j), std=0.3, dtype=dtype) for j in range(SEEDS)
    ]
    together = PolicyEnsemble(policies)
    grid = TimeGrid.uniform(model.horizon, case.steps)
    for study in STUDIES:
        one = _study(study, problem, policies[0], grid, case.batch)
        ten = _study(study, together.problem(problem), together, grid, SEEDS * case.batch)
        for run in (one, ten):
            run(0)
        pairs = measure.paired(one, ten, time.process_time)
        yield {"study": study, **pairs.summary()}


def _study(
    study: str, problem: ControlProblem, policy: Policy, grid: TimeGrid, batch: int
) -> Callable[[int], Any]:
    generator = torch.Generator().manual_seed(0)
    if study == "evaluation":
        return lambda seed: simulate(
            problem, policy, grid, batch, generator=generator, store="none"
        )
    turns = improve(
        problem,
        policy,
        PolicyGradient(MonteCarloAdvantage()),
        grid,
        batch=batch,
        minibatch=batch * grid.steps,
        updater=Updater.adam(policy, 1e-3, clip_norm=1e9),
        generator=generator,
    )
    return lambda seed: next(turns)
