import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch

from ctcontrol import (
    ActionAdvantage,
    ContinuousPPO,
    CtcontrolError,
    GaussianPolicy,
    GeneralizedAdvantage,
    MonteCarloAdvantage,
    MonteCarloFit,
    NoiseAbsorbingPolicy,
    NoiseAwareAdvantage,
    NoiseAwareFit,
    PathwisePolicyGradient,
    StandardizePerContext,
    TemporalDifferenceAdvantage,
    TemporalDifferenceFit,
    Value,
    WarmupCosine,
)
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.presets import preset

LQ = replace(
    preset("lq-smoke"),
    iterations=4,
    rollout=c.Rollout(steps=4, batch=8, exploration=0.5),
    update=c.Update(minibatch=8, epochs=2, share=0.5, learning_rate=1e-2),
    critic=c.Critic(minibatch=16, width=8, policy_waits=1),
)
DIGITS = c.Config(
    rollout=c.Rollout(steps=4, batch=8),
    update=c.Update(minibatch=16, share=1.0),
    critic=c.Critic(minibatch=16, width=8),
)


def lq(**changes: Any) -> c.Config:
    """LQ with other fields of its critic and update."""
    parts: dict[str, Any] = {}
    for part in ("update", "critic", "rollout"):
        known = {f: changes.pop(f) for f in list(changes) if hasattr(getattr(LQ, part), f)}
        parts[part] = replace(getattr(LQ, part), **known)
    return replace(LQ, **parts, **changes)


@pytest.mark.parametrize("device", ["abacus", "cuda:99", ""])
def test_devices_that_are_not_there(device: str) -> None:
    with pytest.raises(CtcontrolError, match=f"device '{device}' cannot be used .*try cpu") as e:
        build(replace(LQ, device=device))
    assert "\n" not in str(e.value)


def test_only_scores_can_absorb_noise() -> None:
    with pytest.raises(
        CtcontrolError, match=r"rollout.exploration = absorbed needs.*give a number"
    ):
        build(lq(exploration="absorbed"))


def test_exploration() -> None:
    absorbing = build(DIGITS)
    assert isinstance(absorbing.policy, NoiseAbsorbingPolicy)
    assert torch.equal(absorbing.policy.nodes, absorbing.grid.times[:-1])
    explored = build(replace(DIGITS, rollout=replace(DIGITS.rollout, exploration=0.7))).policy
    assert isinstance(explored, GaussianPolicy)
    assert explored.std == 0.7


def test_algorithms() -> None:
    update = {"clip": 0.3, "log_ratio_scale": 0.5, "epochs": 3, "share": 0.25}
    for name, kind in {
        "generalized": GeneralizedAdvantage,
        "noise-aware": NoiseAwareAdvantage,
        "closed-form": ActionAdvantage,
        "temporal-difference": TemporalDifferenceAdvantage,
        "monte-carlo": MonteCarloAdvantage,
    }.items():
        made = build(lq(advantage=name, **update)).algorithm
        assert isinstance(made, ContinuousPPO)
        assert isinstance(made.advantage, kind)
        assert {key: getattr(made, key) for key in update} == update
        assert made.transform is None
    forgetful = build(lq(advantage="generalized", advantage_decay=3.5)).algorithm
    assert isinstance(forgetful, ContinuousPPO)
    assert forgetful.advantage == GeneralizedAdvantage(3.5)
    pathwise = build(lq(algorithm="pathwise", **update)).algorithm
    assert isinstance(pathwise, PathwisePolicyGradient)
    assert (pathwise.epochs, pathwise.share) == (3, 0.25)


@pytest.mark.parametrize(("gradient", "full"), [("approximate", False), ("full", True)])
def test_gradients_of_the_value(gradient: str, full: bool) -> None:
    closed = build(lq(advantage="closed-form", gradient=gradient)).algorithm
    assert isinstance(closed, ContinuousPPO)
    assert isinstance(closed.advantage, ActionAdvantage)
    pathwise = build(lq(algorithm="pathwise", gradient=gradient)).algorithm
    assert isinstance(pathwise, PathwisePolicyGradient)
    aware = build(lq(advantage="noise-aware", gradient=gradient)).algorithm
    assert isinstance(aware, ContinuousPPO)
    assert isinstance(aware.advantage, NoiseAwareAdvantage)
    assert closed.advantage.through_mean == pathwise.through_mean == full
    assert aware.advantage.through_mean == full


@pytest.mark.parametrize("algorithm", ["ctrl", "ddpo"])
def test_who_standardizes(algorithm: Any) -> None:
    """Whoever is told to; if nobody is, DDPO."""
    config = replace(DIGITS, algorithm=algorithm)
    for name, wanted in {"auto": algorithm == "ddpo", "per-prompt": True, "none": False}.items():
        made = build(replace(config, update=replace(config.update, standardize=name))).algorithm
        assert isinstance(made, ContinuousPPO)
        assert isinstance(made.transform, StandardizePerContext) is wanted
    with pytest.raises(CtcontrolError, match=r"auto or none where nothing is prompted, got per-"):
        check_config(replace(LQ, update=replace(LQ.update, standardize="per-prompt")))


def test_ddpo_has_no_value_and_ignores_what_concerns_one() -> None:
    """Returns standardized per prompt, whatever `advantage` says; it learns from the start."""
    for config, transform in ((DIGITS, StandardizePerContext), (LQ, type(None))):
        made = build(replace(config, algorithm="ddpo"))
        assert isinstance(made.algorithm, ContinuousPPO)
        assert isinstance(made.algorithm.advantage, MonteCarloAdvantage)
        assert isinstance(made.algorithm.transform, transform)
        assert made.value is made.critic is made.critic_updater is None
        assert set(made.modules()) == set(made.updaters()) == {"policy"}
        first = next(made.iterations())
        assert first.updates > 0


def test_critics() -> None:
    for name, kind in {
        "monte-carlo": MonteCarloFit,
        "noise-aware": NoiseAwareFit,
        "temporal-difference": TemporalDifferenceFit,
    }.items():
        made = build(lq(fit=name))
        assert isinstance(made.critic, kind)
        assert (made.critic.epochs, made.critic.minibatch) == (2, 16)
        assert isinstance(made.value, Value)
        assert set(made.modules()) == set(made.updaters()) == {"policy", "value"}
        assert made.modules()["value"] is made.value is made.setting.value
        assert made.modules()["policy"] is made.setting.mean


@pytest.mark.parametrize("decay", ["cosine", "none"])
@pytest.mark.parametrize("algorithm", ["ctrl", "ddpo"])
@pytest.mark.parametrize("minibatch", [8, 5, 16])
def test_the_learning_rate_ends_with_the_run(decay: str, algorithm: str, minibatch: int) -> None:
    """Warmup from above 0, and a last update at about 5 % of the full rate, or all of it."""
    config = lq(algorithm=algorithm, minibatch=minibatch, decay=decay, iterations=12, warmup=2)
    made = build(config)
    (group,) = made.updater.optimizer.param_groups
    rates: list[float] = []
    for i in itertools.islice(made.iterations(), config.iterations):
        assert i.updates == (0 if algorithm == "ctrl" and i.index < 1 else 2 * (16 // minibatch))
        rates.append(group["lr"] / 1e-2)
    learning = rates[1:] if algorithm == "ctrl" else rates
    assert learning[1] == pytest.approx(1)
    assert learning[0] < 1
    assert isinstance(schedule := made.updater.schedule, WarmupCosine)
    assert group["updates"] == schedule.total
    assert learning[-1] == pytest.approx(0.05 if decay == "cosine" else 1, abs=0.05)
    assert learning[1:] == sorted(learning[1:], reverse=True)


@pytest.mark.parametrize("config", [LQ, DIGITS], ids=["lq", "digits"])
def test_a_run_depends_on_its_config_alone(config: c.Config) -> None:
    def final(config: c.Config) -> torch.Tensor:
        torch.manual_seed(int(torch.randint(1000, ())))
        *_, last = itertools.islice(build(config).iterations(), 4)
        return last.trajectory.final

    first = final(config)
    assert torch.equal(first, final(config))
    assert not torch.equal(first, final(replace(config, seed=5)))
    starts = [
        next(build(replace(config, seed=n)).iterations()).trajectory.states[0] for n in (0, 5)
    ]
    assert not torch.equal(*starts)  # the noise itself, not only the networks


def test_iterations_count_on_from_where_they_start() -> None:
    made = build(LQ)
    later = list(itertools.islice(made.iterations(start=3), 2))
    assert [i.index for i in later] == [3, 4]
    assert all(i.updates > 0 for i in later)  # the policy has waited already


def test_building_does_not_touch_the_global_generator() -> None:
    before = torch.random.get_rng_state()
    build(LQ)
    assert torch.equal(torch.random.get_rng_state(), before)
