"""What holds of every built-in reward."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ctcontrol import TerminalReward
from ctcontrol_diffusion.models.digits import load_classifier
from ctcontrol_diffusion.rewards import (
    CheckedReward,
    TerminalImageReward,
    load_reward,
    reward_names,
)

every_reward = pytest.mark.parametrize("name", reward_names())


def load(name: str) -> CheckedReward:
    return load_reward(name, classifier=load_classifier("reward"))


def digits(n: int, seed: int = 0) -> tuple[Tensor, list[str], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator)
    prompts = [str(label) for label in labels.tolist()]
    return torch.rand(n, 1, 8, 8, generator=generator), prompts, {"labels": labels}


@every_reward
def test_one_finite_number_an_image(name: str) -> None:
    images, prompts, metadata = digits(5)
    rewards, info = load(name)(images, prompts, metadata)
    assert rewards.shape == (5,)
    assert rewards.dtype == torch.float32
    assert rewards.isfinite().all()
    assert all(len(entries) == 5 for entries in info.values())


@every_reward
def test_calling_twice_gives_the_same_bits(name: str) -> None:
    reward, batch = load(name), digits(5)
    assert torch.equal(reward(*batch)[0], reward(*batch)[0])


@every_reward
def test_images_are_left_as_they_are(name: str) -> None:
    images, prompts, metadata = digits(5)
    before = images.clone()
    load(name)(images, prompts, metadata)
    assert torch.equal(images, before)


@every_reward
def test_double_precision_stays(name: str) -> None:
    classifier = load_classifier("reward").double()
    images, prompts, metadata = digits(2)
    rewards, _ = load_reward(name, classifier=classifier)(images.double(), prompts, metadata)
    assert rewards.dtype == torch.float64


@every_reward
@given(st.permutations(range(6)), st.integers(0, 2**31))
def test_permuted_images_have_permuted_rewards(name: str, order: list[int], seed: int) -> None:
    reward = load(name)
    images, prompts, metadata = digits(6, seed)
    rewards, _ = reward(images, prompts, metadata)
    permuted, _ = reward(
        images[order], [prompts[i] for i in order], {"labels": metadata["labels"][order]}
    )
    assert torch.allclose(permuted, rewards[order], atol=1e-5)


@every_reward
def test_the_reward_of_an_image_is_its_own_affair(name: str) -> None:
    reward = load(name)
    images, prompts, metadata = digits(4)
    whole, _ = reward(images, prompts, metadata)
    alone = [
        reward(images[i : i + 1], prompts[i : i + 1], {"labels": metadata["labels"][i : i + 1]})[0]
        for i in range(4)
    ]
    assert torch.allclose(torch.cat(alone), whole, atol=1e-5)


@every_reward
def test_as_the_terminal_reward_of_a_control_problem(name: str) -> None:
    images, prompts, metadata = digits(4)
    reward = load(name)
    terminal = TerminalImageReward(
        reward,
        decode=lambda x, _: (x + 1) / 2,
        prompts=lambda labels: [str(label) for label in labels.tolist()],
        metadata=lambda labels: {"labels": labels},
    )
    states, labels = (2 * images - 1).requires_grad_(), metadata["labels"]
    rewards = TerminalReward(terminal).terminal(states, labels)
    assert torch.allclose(rewards, reward(images, prompts, metadata)[0], atol=1e-5)
    assert torch.equal(terminal.probe(states, labels), rewards.detach())
    assert rewards.requires_grad == reward.differentiable == ("jpeg" not in name)
    if rewards.requires_grad:
        (gradient,) = torch.autograd.grad(rewards.sum(), states)
        assert (gradient.flatten(1).abs().sum(1) > 0).all()
