"""Weighted sums: the arithmetic, what is only watched, and how they are written."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import (
    Brightness,
    CheckedReward,
    JPEGCompressibility,
    RewardError,
    Symmetry,
    Term,
    WeightedReward,
    differentiable,
    load_reward,
)

BRIGHT, EVEN = CheckedReward("brightness", Brightness()), CheckedReward("symmetry", Symmetry())
JPEG = CheckedReward("jpeg", JPEGCompressibility())
PROMPTS = ["a", "b", "c"]


def images() -> Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def of(reward: CheckedReward) -> Tensor:
    return reward(images(), PROMPTS, {})[0]


@pytest.mark.parametrize("plus", ["+", " + "])
def test_the_sum_of_normalised_rewards(plus: str) -> None:
    name = f"sum:0.5*brightness,mean=0.4,std=0.2{plus}2*symmetry{plus}1e-1*jpeg-compressibility"
    reward = load_reward(name)
    rewards, info = reward(images(), PROMPTS, {})
    jpeg = of(load_reward("jpeg-compressibility"))
    expected = 0.5 * (of(BRIGHT) - 0.4) / 0.2 + 2 * of(EVEN) + 0.1 * jpeg
    assert torch.allclose(rewards, expected, atol=1e-6)
    assert torch.allclose(info["brightness"], of(BRIGHT))  # in its own units
    assert set(info) == {
        "brightness",
        "symmetry",
        "jpeg-compressibility",
        "jpeg-compressibility/kilobytes",
    }


def test_negative_weights_and_options_of_terms() -> None:
    reward = load_reward("sum:1*brightness-0.5*jpeg-compressibility,scale=500,std=2")
    jpeg = of(load_reward("jpeg-compressibility,scale=500"))
    assert torch.allclose(of(reward), of(BRIGHT) - 0.5 * jpeg / 2, atol=1e-6)
    assert torch.allclose(of(load_reward("sum:-1*brightness")), -of(BRIGHT))


def test_only_rewards_of_weight_other_than_zero_are_trained_on() -> None:
    watched = CheckedReward("watched", WeightedReward((Term(1.0, BRIGHT), Term(0.0, JPEG))))
    assert watched.differentiable  # though JPEG sizes are not
    pixels = images().requires_grad_()
    rewards, info = watched(pixels, PROMPTS, {})
    assert torch.allclose(rewards, of(BRIGHT))
    assert torch.allclose(info["jpeg"], of(JPEG))
    (gradient,) = torch.autograd.grad(rewards.sum(), pixels)
    (alone,) = torch.autograd.grad(BRIGHT(pixels, PROMPTS, {})[0].sum(), pixels)
    assert torch.allclose(gradient, alone)
    assert not WeightedReward((Term(1.0, BRIGHT), Term(1e-9, JPEG))).differentiable


def test_what_is_only_watched_keeps_no_graph() -> None:
    seen: list[bool] = []

    @differentiable
    def watching(
        images: Tensor, prompts: list[str], metadata: Any
    ) -> tuple[Tensor, dict[str, Any]]:
        seen.append(torch.is_grad_enabled())
        return images.mean((1, 2, 3)), {}

    other = CheckedReward("watching", watching)
    for weight in (0.0, 1.0):
        pixels = images().requires_grad_()
        WeightedReward((Term(1.0, BRIGHT), Term(weight, other)))(pixels, PROMPTS, {})
    assert seen == [False, True]


def test_measured_terms_have_mean_zero_and_one_standard_deviation() -> None:
    measured = WeightedReward((Term(2.0, BRIGHT), Term(0.0, JPEG))).measured(images(), PROMPTS, {})
    rewards = measured(images(), PROMPTS, {})[0]
    assert float(rewards.mean()) == pytest.approx(0, abs=1e-5)
    assert float(rewards.std()) == pytest.approx(2, rel=1e-4)
    assert measured.terms[1].mean == pytest.approx(float(of(JPEG).mean()))
    flat = torch.full((2, 3, 4, 4), 0.5)
    with pytest.raises(CtcontrolError, match=r"'brightness' is 0.5 on all 2 images; give its std"):
        measured.measured(flat, ["", ""], {})
    with pytest.raises(CtcontrolError, match="two images or more, got 1"):
        measured.measured(flat[:1], [""], {})


def test_a_failing_term_is_named_with_its_prompt() -> None:
    def lost(images: Tensor, prompts: list[str], metadata: Any) -> tuple[Tensor, dict[str, Any]]:
        return torch.tensor([0.0, float("nan"), 0.0]), {}

    total = CheckedReward(
        "sum", WeightedReward((Term(0.0, CheckedReward("l", lost)), Term(1, EVEN)))
    )
    with pytest.raises(RewardError, match=r"'sum' cannot be .*: reward 'l' returned nan .* 'b'"):
        total(images(), PROMPTS, {})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sum:", "a sum of rewards needs a term of weight other than 0"),
        ("sum:0*brightness", "needs a term of weight other than 0"),
        ("sum:brightness", r"'brightness' in 'sum:brightness' must be weight\*reward, as in"),
        ("sum:1*brightness+symmetry", "unknown reward 'brightness.symmetry'"),
        ("sum:x*brightness", "must be weight"),
        ("sum:1*brightnes", "unknown reward 'brightnes'; did you mean 'brightness'"),
        ("sum:1*brightness+2*brightness", "the sum has 'brightness' twice; add its weights"),
        ("sum:1*brightness,std=0", "std of the reward 'brightness' must be .* 0"),
        ("sum:1*brightness,mean=high", "mean in '1.brightness,mean=high' must be a number, got"),
        ("sum:1e999*brightness", "weight of 'brightness' must be finite, got inf"),
    ],
)
def test_sums_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        load_reward(name)
