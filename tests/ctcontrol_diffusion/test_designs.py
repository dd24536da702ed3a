"""Designs of value networks, by their flags, on the embedded model."""

from dataclasses import fields, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import ContinuousPPO, CtcontrolError, PinnedValue, simulate
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.models.digits import DigitClassifier, load_classifier
from ctcontrol_diffusion.presets import PRESETS
from ctcontrol_diffusion.run.checkpoint import Counters, load_checkpoint, save_checkpoint
from ctcontrol_diffusion.score import NetworkScore
from ctcontrol_diffusion.settings import digits

DESIGNS = ["perceptron", "convolution", "tower", "features"]


def small(reward: str = "alignment", **critic: Any) -> c.Config:
    """A few steps of a few images."""
    usual: dict[str, Any] = {"minibatch": 24, "width": 8, "policy_waits": 0}
    return c.Config(
        problem=c.Digits(reward=reward),
        threads=1,
        iterations=2,
        rollout=c.Rollout(steps=4, batch=12),
        update=c.Update(minibatch=24, share=1.0, warmup=0),
        critic=c.Critic(**usual | critic),
    )


def rows(made: Experiment) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy states at the nodes of the grid, with prompts."""
    x, label = made.setting.problem.initial(8, torch.Generator().manual_seed(1))
    return made.grid.times[:-1].float().repeat(2), x, label


def value(made: Experiment) -> PinnedValue:
    assert isinstance(made.value, PinnedValue)
    return made.value


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("second", ["original", "denoised"])
def test_every_design_trains(design: Any, second: Any) -> None:
    if (design, second) == ("features", "denoised"):
        pytest.skip("refused at the door")
    made = build(check_config(small(design=design, second=second)))
    before = {n: p.detach().clone() for n, p in value(made).named_parameters()}
    first = next(made.iterations())
    assert first.updates > 0
    after = dict(value(made).named_parameters())
    learned = {n for n, p in after.items() if p.requires_grad}
    changed = {n for n, p in after.items() if not torch.equal(p, before[n])}
    assert changed
    assert changed <= learned
    frozen = set(after) - learned
    assert bool(frozen) == (design == "tower")


@pytest.mark.parametrize("design", DESIGNS)
def test_a_checkpoint_continues_bit_for_bit(design: Any, tmp_path: Path) -> None:
    config = small(design=design)
    whole = list(islice(build(config).iterations(), 2))[1]
    first = build(config)
    next(first.iterations())
    folder = save_checkpoint(tmp_path, first, Counters(iterations=1))
    again = build(config)
    load_checkpoint(folder, again)
    second = next(again.iterations(1))
    assert torch.equal(second.trajectory.states, whole.trajectory.states)
    assert second.value_loss == whole.value_loss
    assert second.policy_loss == whole.policy_loss


def test_the_value_is_pretrained_on_the_pretrained_model(tmp_path: Path) -> None:
    """Also when it is stopped and continued in the middle of it."""
    config = small(policy_waits=2)
    whole = build(config)
    frozen = [p.detach().clone() for p in whole.setting.mean.parameters()]
    both = list(islice(whole.iterations(), 2))
    assert [i.updates for i in both] == [0, 0]
    assert all(i.value_loss > 0 and float(i.divergence.mean) == 0 for i in both)
    for p, q in zip(whole.setting.mean.parameters(), frozen, strict=True):
        assert torch.equal(p, q)
    first = build(config)
    next(first.iterations())
    folder = save_checkpoint(tmp_path, first, Counters(iterations=1))
    again = build(config)
    load_checkpoint(folder, again)
    assert next(again.iterations(1)).value_loss == both[1].value_loss
    for p, q in zip(value(again).parameters(), value(whole).parameters(), strict=True):
        assert torch.equal(p, q)


class Counting:
    """How often a network is asked."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.calls = 0
        network.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.calls += 1


def test_features_cost_no_evaluation_of_the_policy() -> None:
    calls: dict[str, int] = {}
    for design in ("perceptron", "features"):
        made = build(small(design=design, epochs=2))
        counting = Counting(made.setting.mean)
        next(made.iterations())
        calls[design] = counting.calls
    assert calls["features"] == calls["perceptron"]


def test_features_are_those_of_the_rollout() -> None:
    made = build(small(design="features"))
    score = made.setting.mean
    assert isinstance(score, NetworkScore)
    again = build(small(design="features")).setting.mean
    path = next(made.iterations()).trajectory
    assert path.notes is not None
    with torch.no_grad():
        for k in range(path.steps):
            where = path.times(k), path.states[k], path.context
            _, before = again.noted(*where)  # type: ignore[operator]  # a NetworkScore
            assert torch.equal(path.notes[k], before)
            _, after = score.noted(*where)
            assert after is not None
            assert float((path.notes[k] - after).abs().max()) > 1e-4  # the policy has learned


def test_a_head_finds_features_out_where_nobody_tells() -> None:
    made = build(small(design="features"))
    torch.nn.init.normal_(value(made).residual.head.weight)  # type: ignore[union-attr]  # a module
    path = next(made.iterations()).trajectory
    fresh = build(small(design="features"))
    value(fresh).load_state_dict(value(made).state_dict())
    rows = path.transitions()
    noted = value(fresh).given(rows.notes)
    with torch.no_grad():
        known = noted.at(rows.t0, rows.x, rows.context)
        found = value(fresh).at(rows.t0, rows.x, rows.context)
    torch.testing.assert_close(known, found, rtol=1e-5, atol=1e-5)
    guess = noted.gradient(rows.t0, rows.x, rows.context, rows.law.mean)
    whole = value(fresh).gradient(rows.t0, rows.x, rows.context)
    assert float((guess - whole).abs().max()) > 1e-3


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("gradient", ["approximate", "full"])
def test_slopes_by_both_modes(design: Any, gradient: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the advantages that need them, through the policy's network or not; in float64."""
    classifiers: list[DigitClassifier] = []

    def remembered(name: str) -> DigitClassifier:
        classifiers.append(load_classifier(name))
        return classifiers[-1]

    monkeypatch.setattr(digits, "load_classifier", remembered)
    found: dict[str, Tensor] = {}
    for derivative in ("reverse", "forward"):
        config = small(design=design, gradient=gradient, derivative=derivative)
        made = build(replace(config, update=replace(config.update, advantage="closed-form")))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for p in value(made).parameters():
                torch.nn.init.normal_(p, std=0.1) if p.requires_grad else None
        setting = made.setting
        path = simulate(
            setting.problem,
            made.policy,
            made.grid,
            8,
            generator=torch.Generator().manual_seed(0),
            solver=setting.solver,
        )
        for module in (made.policy, value(made), *classifiers):
            module.double()
        seen = {f.name: getattr(path, f.name) for f in fields(path)}
        path = replace(path, **{k: v.double() for k, v in seen.items() if _is_float(v)})
        assert isinstance(made.algorithm, ContinuousPPO)
        found[derivative] = made.algorithm.advantage(
            setting.problem, setting.solver, value(made), path
        )
    size = float(found["reverse"].abs().max())
    assert float((found["forward"] - found["reverse"]).abs().max()) < 1e-9 * size


def test_networks_without_a_middle_have_no_features() -> None:
    score = build(small()).setting.mean
    assert isinstance(score, NetworkScore)
    score.network = torch.nn.Identity()
    with pytest.raises(CtcontrolError, match=r"Identity has no middle block .*design convolution"):
        score.take_notes()


@torch.no_grad()
def test_a_tower_begins_as_the_reward_of_both_images() -> None:
    made = build(small(design="tower"))
    t, x, label = rows(made)
    guess = value(made)._guess[0]
    u = 1 - t / made.setting.problem.horizon
    # the copy is not clipped, and these states are far from digits
    parts = build(small(design="tower", first="original", reward="alignment,clip=1e4"))
    known = value(parts)._guess[0](t, x, label, None)
    expected = torch.cos(torch.pi / 2 * u) * guess(t, x, label, None)
    expected = expected + torch.sin(torch.pi / 2 * u) * known
    torch.testing.assert_close(value(made).at(t, x, label), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_looking_at_the_denoised_state_takes_the_mean_where_it_is_known() -> None:
    made = build(small(design="tower", second="denoised"))
    t, x, label = rows(made)
    mean = made.setting.mean(t, x, label)
    once = value(made).at(t, x, label)
    torch.testing.assert_close(value(made).at(t, x, label, mean), once, rtol=1e-5, atol=1e-5)
    original = value(build(small(design="tower"))).at(t, x, label, mean)
    assert bool(((original - once).abs() > 1e-3).any())


def test_a_reward_without_a_network_gets_one_on_the_decoded_image() -> None:
    made = build(small("symmetry", design="tower"))
    residual = value(made).residual
    assert isinstance(residual, torch.nn.Module)
    assert all(p.requires_grad for p in residual.parameters())
    t, x, label = rows(made)
    with torch.no_grad():
        torch.nn.init.ones_(residual.network.head.weight)  # type: ignore[union-attr]  # OnImages
        outside = x.clone()
        outside[x > 1] += 1.0  # beyond white nothing is to be seen
        torch.testing.assert_close(residual(t, x, label), residual(t, outside, label))


def test_without_a_guess_the_reward_is_asked_at_the_end_alone() -> None:
    made = build(check_config(small("symmetry", design="convolution", first="none", link="const")))
    t, x, label = rows(made)
    with torch.no_grad():
        assert not value(made).at(t, x, label).any()
        end = torch.full_like(t, made.setting.problem.horizon)
        terminal = made.setting.problem.reward.terminal(x, label)
        assert torch.equal(value(made).at(end, x, label), terminal)
    assert sum(1 for _ in islice(made.iterations(), 2)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": "none"}, "critic.first none leaves all .*critic.link cos-sin.*link const"),
        ({"design": "features", "second": "denoised"}, "second denoised says nothing to .*leave"),
        ({"tower_share": 0.0}, r"critic.tower-share must be in \(0, 1\], got 0.0"),
        ({"tower_share": 1.5}, "got 1.5"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CtcontrolError, match=message) as error:
        check_config(small(**changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes", [{"design": "tower"}, {"first": "original"}, {"second": "denoised"}]
)
def test_designs_are_for_image_models(changes: dict[str, Any]) -> None:
    linear = PRESETS["lq-smoke"]
    with pytest.raises(CtcontrolError, match=r"is for image models.*leave the flag out"):
        check_config(replace(linear, critic=replace(linear.critic, **changes)))
