"""Brightness and symmetry on images whose reward is known."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ctcontrol_diffusion.rewards import Brightness, RewardFunction, Symmetry, luminance


def rewards_of(function: RewardFunction, images: Tensor) -> Tensor:
    rewards, info = function(images, [""] * len(images), {})
    assert info == {}
    return rewards


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("level", [0.0, 0.25, 1.0])
def test_a_constant_image_is_as_bright_as_its_pixels(channels: int, level: float) -> None:
    images = torch.full((2, channels, 5, 7), level, dtype=torch.float64)
    assert torch.allclose(rewards_of(Brightness(), images), images.new_full((2,), level))


def test_green_is_brighter_than_red_and_red_than_blue() -> None:
    images = torch.eye(3, dtype=torch.float64)[:, :, None, None].expand(3, 3, 4, 4)
    expected = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert torch.allclose(rewards_of(Brightness(), images), expected)


def test_gray_as_three_equal_channels_is_as_luminous_as_gray() -> None:
    gray = noise(3, 1, 4, 6)
    assert torch.allclose(luminance(gray.expand(3, 3, 4, 6)), luminance(gray))


@pytest.mark.parametrize("width", [1, 6, 7])
def test_an_image_equal_to_its_mirror_image_has_symmetry_zero(width: int) -> None:
    half = noise(3, 3, 4, width)
    assert torch.equal(rewards_of(Symmetry(), half + half.flip(-1)), half.new_zeros(3))


def test_symmetry_is_about_left_and_right_not_top_and_bottom() -> None:
    images = torch.zeros(2, 1, 4, 6)
    images[0, :, :, 3:] = 1  # right half white
    images[1, :, 2:] = 1  # lower half white
    assert rewards_of(Symmetry(), images).tolist() == [-1, 0]


def test_symmetry_of_one_lit_pixel() -> None:
    images = torch.zeros(1, 1, 2, 4)
    images[0, 0, 0, 0] = 0.5
    assert rewards_of(Symmetry(), images).item() == pytest.approx(-2 * 0.5 / 8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("function", [Brightness(), Symmetry()])
def test_gradients_equal_finite_differences(function: RewardFunction, channels: int) -> None:
    images = noise(2, channels, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rewards_of(function, x), images)


@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([1, 3]))
def test_symmetry_does_not_change_under_reflection(seed: int, width: int, channels: int) -> None:
    images = noise(2, channels, 3, width, seed=seed)
    rewards = rewards_of(Symmetry(), images)
    assert torch.allclose(rewards_of(Symmetry(), images.flip(-1)), rewards)
    assert ((rewards >= -1) & (rewards <= 0)).all()
