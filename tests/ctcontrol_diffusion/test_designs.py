"""Designs of value networks, by their flags, on the embedded model."""

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import CtcontrolError, PinnedValue
from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.presets import PRESETS

DESIGNS = ["perceptron", "convolution", "tower"]


def small(reward: str = "alignment", **critic: Any) -> c.Config:
    """A few steps of a few images."""
    usual: dict[str, Any] = {"minibatch": 24, "width": 8, "policy_waits": 0}
    return c.Config(
        problem=c.Digits(reward=reward),
        threads=1,
        iterations=2,
        rollout=c.Rollout(steps=4, batch=12),
        update=c.Update(minibatch=24, warmup=0),
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
