"""The inspector of the digits: KL by hand, noise that is shared, batches and seeds."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from ctcontrol import GaussianPolicy, PathKL, TimeGrid, simulate
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.inspection import Cell, Inspector, Plan
from ctcontrol_diffusion.solvers import DDIM
from tests.helpers import seeded

PLAN = Plan(steps=(4,), images=12)
SDE = Cell("SDE", 4)


@pytest.fixture(scope="module")
def moved() -> tuple[Inspector, Any]:
    """The inspector of a run, and a policy that is not the pretrained one."""
    setting = build(c.Config(threads=1, evaluation=c.Evaluation(images=12))).setting
    assert setting.inspector is not None
    generator = seeded(0)
    with torch.no_grad():
        for parameter in setting.mean.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += 0.05 * parameter.abs().mean() * noise
    return setting.inspector, setting.mean


@torch.no_grad()
def test_the_kl_of_each_step_is_that_of_its_gaussians(moved: tuple[Inspector, Any]) -> None:
    """|difference of the means|²/(2 variance) of the two laws of the next state, path by path."""
    inspector, mean = moved
    found = inspector.samples(mean, SDE, PLAN, measured=True)
    problem, sampler = inspector.problem, DDIM(1.0)
    grid = TimeGrid.uniform(problem.horizon, 4)
    path = simulate(
        problem, GaussianPolicy(mean), grid, 12, generator=seeded(PLAN.seed), solver=sampler
    )
    assert isinstance(problem.regularizer, PathKL)
    reference = problem.regularizer.reference
    assert found.kl_steps is not None
    for k in range(4):
        t0, t1, x = path.times(k), path.times(k + 1), path.states[k]
        theirs = reference.dist(t0, x, path.context).mean
        a, b = (
            sampler.mean(problem.sde, t0, t1, x, action, path.context)
            for action in (path.means[k], theirs)
        )
        noise = torch.ones_like(x) * (t1 - t0).sqrt()[:, None, None, None]
        std = sampler.noise(problem.sde, t0, t1, x, a, noise).flatten(1)[:, 0]
        by_hand = ((a - b) ** 2).flatten(1).sum(1) / (2 * std**2)
        torch.testing.assert_close(found.kl_steps[k], by_hand, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found.values["kl"], found.kl_steps.sum(0))


def test_the_seed_is_the_noise(moved: tuple[Inspector, Any]) -> None:
    inspector, mean = moved
    first, again, other = (
        inspector.samples(mean, SDE, replace(PLAN, seed=seed), measured=False).features
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_batch_is_larger_than_the_memory_allows(moved: tuple[Inspector, Any]) -> None:
    inspector, mean = moved
    seen: list[int] = []

    def decode(x: torch.Tensor, context: Any) -> torch.Tensor:
        seen.append(len(x))
        return inspector.decode(x, context)

    told: list[int] = []
    small = replace(inspector, decode=decode, batch=5)
    found = small.samples(mean, SDE, replace(PLAN, shown=6), measured=False, tell=told.append)
    assert seen == told == [4, 4, 4]
    assert len(found.shown) == 6
    assert all(len(values) == 12 for values in found.values.values())


def test_prompts_change_nothing_but_the_prompt(moved: tuple[Inspector, Any]) -> None:
    """The same noise whatever is asked for."""
    inspector, mean = moved
    asked = replace(PLAN, groups={"g": ("3", "7"), "h": ("0",)})
    parts = {
        g: inspector.samples(mean, Cell("ODE", 4, g), asked, measured=False) for g in ("g", "h")
    }
    assert parts["g"].texts == ["3", "7"] * 6
    assert parts["h"].texts == ["0"] * 12
    own = inspector.problem.initial(12, seeded(PLAN.seed))
    texts = inspector.clean.prompts(own[1])
    same = inspector.samples(
        mean, Cell("ODE", 4, "own"), replace(PLAN, groups={"own": tuple(texts)}), measured=False
    )
    plain = inspector.samples(mean, Cell("ODE", 4), PLAN, measured=False)
    assert same.texts == plain.texts
    assert torch.equal(same.features, plain.features)


def test_the_pretrained_model_is_known_by_its_answers(moved: tuple[Inspector, Any]) -> None:
    inspector, mean = moved
    assert not inspector.is_reference(mean)
    assert isinstance(inspector.problem.regularizer, PathKL)
    reference: Any = inspector.problem.regularizer.reference
    assert inspector.is_reference(reference.mean)
    row = inspector.rows(reference.mean, PLAN, lambda done, total: None)[0]
    assert row.numbers["kl"] == (0.0, 0.0)
    assert [step for step, _ in row.kl_steps] == [0.0] * 4
