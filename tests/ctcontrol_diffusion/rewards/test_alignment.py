"""Log-probability of the asked class: closed form, clip, gradient, labels."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.digits import digits_data, load_classifier
from ctcontrol_diffusion.rewards import ClassifierAlignment


def two_classes(x: Tensor) -> Tensor:
    """Logits (0, m) with m the mean pixel in [-1, 1]: p(1) is the logistic function of m."""
    mean = x.mean((1, 2, 3))
    return torch.stack([torch.zeros_like(mean), mean], 1)


def reward_of(function: ClassifierAlignment, images: Tensor, labels: Any) -> Tensor:
    return function(images, [""] * len(images), {"labels": labels})[0]


@pytest.mark.parametrize("level", [0.0, 0.5, 0.8, 1.0])
def test_log_probability_of_a_logistic_classifier(level: float) -> None:
    images = torch.full((2, 1, 3, 3), level, dtype=torch.float64)
    mean = torch.tensor(2 * level - 1, dtype=torch.float64)  # the classifier sees [-1, 1]
    expected = nn.functional.logsigmoid(torch.stack([-mean, mean]))
    rewards = reward_of(ClassifierAlignment(two_classes), images, torch.tensor([0, 1]))
    assert torch.allclose(rewards, expected, atol=1e-12)


def test_clip_bounds_the_reward_and_stops_the_gradient_below() -> None:
    steep = ClassifierAlignment(lambda x: 100 * two_classes(x), clip=3.0)
    images = torch.tensor([0.0, 0.495]).reshape(2, 1, 1, 1).requires_grad_()
    rewards = reward_of(steep, images, torch.tensor([1, 1]))
    assert rewards[0].item() == -3
    assert rewards[1].item() == pytest.approx(-1.3133, abs=1e-3)  # -log(1 + e)
    (gradient,) = torch.autograd.grad(rewards.sum(), images)
    assert gradient[0].item() == 0
    assert gradient[1].item() == pytest.approx(146.21, rel=1e-3)  # 200 / (1 + exp(-1))


def test_without_clip_nothing_is_bounded() -> None:
    function = ClassifierAlignment(lambda x: 100 * two_classes(x), clip=None)
    assert reward_of(function, torch.zeros(1, 1, 1, 1), [1]).item() == pytest.approx(-100)


def test_gradient_equals_finite_differences(generator: torch.Generator) -> None:
    classifier = load_classifier("reward").double()
    images = torch.rand(3, 1, 8, 8, generator=generator, dtype=torch.float64).requires_grad_()
    function = ClassifierAlignment(classifier, clip=None, rows=2)
    labels = torch.tensor([1, 5, 9])
    assert torch.autograd.gradcheck(lambda x: reward_of(function, x, labels), images)


def test_cutting_the_batch_changes_nothing(generator: torch.Generator) -> None:
    classifier = load_classifier("reward").double()
    images = torch.rand(7, 1, 8, 8, generator=generator, dtype=torch.float64)
    labels = torch.arange(7)
    whole, cut = (
        reward_of(ClassifierAlignment(classifier, rows=r), images, labels) for r in (7, 3)
    )
    assert torch.allclose(whole, cut, atol=1e-12)


def test_real_digits_are_aligned_with_their_labels_and_no_others() -> None:
    data = digits_data("heldout")
    function = ClassifierAlignment(load_classifier("reward"))
    images = (data.images + 1) / 2
    right, info = function(images, [""] * len(data), {"labels": data.labels})
    wrong = reward_of(function, images, (data.labels + 1) % 10)
    assert info["correct"].float().mean() >= 0.97
    assert right.mean() > -0.3
    assert wrong.mean() < -3


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, 'has no "labels".*it has nothing'),
        ({"label": [1, 1]}, r'has no "labels".*\[\'label\'\]'),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"shape \(2,\), got torch.int64 of.*\(3,\)"),
        ({"labels": torch.zeros(2)}, "one integer an image.*got torch.float32"),
        ({"labels": torch.tensor([True, False])}, "one integer an image.*got torch.bool"),
        ({"labels": torch.tensor([0, 2])}, "must be in 0 … 1.*got 2"),
        ({"labels": torch.tensor([-1, 0])}, "must be in 0 … 1.*got -1"),
    ],
)
def test_bad_labels_are_refused(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        ClassifierAlignment(two_classes)(torch.zeros(2, 1, 4, 4), ["", ""], metadata)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(CtcontrolError, match=r"clip of the alignment reward must be .* got 0"):
        ClassifierAlignment(two_classes, clip=0)
    with pytest.raises(CtcontrolError, match=r"rows of the alignment reward must be .* got 0"):
        ClassifierAlignment(two_classes, rows=0)
    with pytest.raises(CtcontrolError, match=r"training mode; call its eval\(\) first"):
        ClassifierAlignment(nn.Linear(1, 1))
