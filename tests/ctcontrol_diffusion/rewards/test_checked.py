"""Whatever a reward function does wrong ends in one sentence, and the batch is not lost."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ctcontrol import CtcontrolError, NumericalError, ShapeError
from ctcontrol_diffusion.rewards import (
    CheckedReward,
    ClassifierAlignment,
    RewardError,
    differentiable,
)

PROMPTS = ["zero", "one", "two"]
IMAGES = torch.linspace(0, 1, 3 * 3 * 4).reshape(3, 3, 2, 2)
LABELS = torch.arange(3)


def checked(function: Callable[..., Any]) -> CheckedReward:
    return CheckedReward("mine:reward", function)


def returning(*answer: Any) -> CheckedReward:
    return checked(lambda images, prompts, metadata: answer[0] if len(answer) == 1 else answer)


def failing(error: Exception) -> CheckedReward:
    def function(images: Tensor, prompts: list[str], metadata: Any) -> Any:
        raise error

    return checked(function)


@pytest.mark.parametrize(
    "values",
    [
        torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64),
        np.array([1.0, 2.0, 3.0]),
        np.broadcast_to(np.arange(1, 4, dtype=np.int16), (3,)),  # read-only
        [1, 2, 3],
    ],
    ids=["tensor", "array", "read-only array", "list"],
)
def test_rewards_may_be_tensors_arrays_or_lists(values: Any) -> None:
    rewards, info = returning(values, {"size": np.zeros(3)})(IMAGES, PROMPTS, {})
    assert rewards.dtype == torch.float32
    assert rewards.tolist() == [1, 2, 3]
    assert list(info) == ["size"]


def test_the_function_gets_what_was_given() -> None:
    def function(images: Tensor, prompts: list[str], metadata: Any) -> Any:
        assert torch.equal(images, IMAGES)
        assert prompts == PROMPTS
        assert metadata == {"labels": LABELS}
        return [0.0] * 3, {}

    checked(function)(IMAGES, PROMPTS, {"labels": LABELS})


@pytest.mark.parametrize("kind", [torch.zeros, np.zeros])
def test_a_buffer_that_is_used_again_does_not_change_earlier_rewards(kind: Any) -> None:
    buffer = kind(3)

    def function(images: Tensor, prompts: list[str], metadata: Any) -> Any:
        buffer[:] = buffer + 1
        return buffer, {}

    first, _ = checked(function)(IMAGES, PROMPTS, {})
    checked(function)(IMAGES, PROMPTS, {})
    assert first.tolist() == [1, 1, 1]


def test_images_changed_in_place_are_the_functions_own() -> None:
    before = IMAGES.clone()
    checked(lambda images, *_: (images.mul_(255).mean((1, 2, 3)), {}))(IMAGES, PROMPTS, {})
    assert torch.equal(IMAGES, before)


def test_a_function_in_numpy_needs_no_care_for_gradients() -> None:
    images = IMAGES.clone().requires_grad_()
    reward = checked(lambda images, *_: (images.numpy().mean((1, 2, 3)), {}))
    rewards, _ = reward(images, PROMPTS, {})
    assert not reward.differentiable
    assert not rewards.requires_grad
    assert torch.equal(reward.probe(images, PROMPTS, {}), rewards)


def test_gradients_flow_where_they_are_declared() -> None:
    images = IMAGES.clone().requires_grad_()
    reward = checked(differentiable(lambda images, *_: (images.square().sum((1, 2, 3)), {})))
    rewards, _ = reward(images, PROMPTS, {})
    (gradient,) = torch.autograd.grad(rewards.sum(), images)
    assert torch.allclose(gradient, 2 * images)
    with torch.no_grad():
        assert not reward(images, PROMPTS, {})[0].requires_grad
    assert not reward.probe(images, PROMPTS, {}).requires_grad


MISTAKES = {
    "raises": (
        failing(ZeroDivisionError("division by zero\nand more")),
        r"reward 'mine:reward' raised ZeroDivisionError: division by zero$",
    ),
    "raises nothing said": (failing(KeyError()), r"reward 'mine:reward' raised KeyError$"),
    "bad input": (
        checked(ClassifierAlignment(lambda x: x.mean((2, 3)))),
        r'reward \'mine:reward\' cannot be computed: metadata has no "labels"',
    ),
    "no info": (returning(torch.zeros(3)), r"must return a pair \(rewards, info\).*got Tensor$"),
    "nothing": (returning(None), r"must return a pair .* got NoneType$"),
    "info no dict": (returning([0.0] * 3, []), r"must return a pair .* got \(list, list\)$"),
    "three things": (returning([0.0] * 3, {}, {}), r"got \(list, dict, dict\)$"),
    "no numbers": (returning("abc", {}), r"as a tensor, an array or a list of numbers, got str"),
    "none": (returning(None, {}), r"a list of numbers, got NoneType"),
    "ragged": (returning([[1.0], [1.0, 2.0], []], {}), r"a list of numbers, got list"),
    "column": (returning(torch.zeros(3, 1), {}), r"shape \(3,\), got shape \(3, 1\)$"),
    "mean": (returning(torch.tensor(0.0), {}), r"shape \(3,\), got shape \(\)$"),
    "too few": (returning(np.zeros(2), {}), r"shape \(3,\), got shape \(2,\)$"),
    "complex": (
        returning(torch.zeros(3, dtype=torch.complex64), {}),
        r"one real number .* got torch.complex64",
    ),
    "nan": (
        returning([0.0, float("nan"), float("inf")], {}),
        r"returned nan for the prompt 'one' \(image 1; 2 of 3 rewards are not finite\); return a",
    ),
    "overflow": (returning([0.0, 0.0, -1e300], {}), r"returned -inf for the prompt 'two'"),
    "short info": (returning([0.0] * 3, {"a": [1]}), r"3 of them, but info\['a'\] has 1$"),
    "scalar info": (
        returning([0.0] * 3, {"a": torch.tensor(1.0)}),
        r"one entry an image, 3 of them, but info\['a'\] has no length$",
    ),
}
every_mistake = pytest.mark.parametrize(
    ("reward", "message"), list(MISTAKES.values()), ids=list(MISTAKES)
)


@every_mistake
def test_a_mistake_during_a_run_carries_the_batch(reward: CheckedReward, message: str) -> None:
    metadata = {"size": LABELS, "author": ["x"] * 3}
    with pytest.raises(RewardError, match=message) as caught:
        reward(IMAGES, PROMPTS, metadata)
    assert isinstance(caught.value, NumericalError)
    assert torch.equal(caught.value.batch["images"], IMAGES)
    assert torch.equal(caught.value.batch["size"], LABELS)
    assert set(caught.value.batch) <= {"images", "size", "rewards"}
    assert "\n" not in str(caught.value)


@every_mistake
def test_a_mistake_before_a_run_is_bad_input(reward: CheckedReward, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        reward.probe(IMAGES, PROMPTS, {})


def test_the_original_exception_is_the_cause() -> None:
    error = ZeroDivisionError("division by zero")
    with pytest.raises(RewardError) as during:
        failing(error)(IMAGES, PROMPTS, {})
    with pytest.raises(CtcontrolError) as before:
        failing(error).probe(IMAGES, PROMPTS, {})
    assert during.value.__cause__ is error
    assert before.value.__cause__ is error


def test_rewards_that_are_not_finite_are_saved_with_the_batch() -> None:
    with pytest.raises(RewardError) as caught:
        returning([0.0, float("nan"), 1.0], {})(IMAGES, PROMPTS, {})
    assert caught.value.batch["rewards"].isnan().tolist() == [False, True, False]


def test_an_interrupt_is_not_swallowed() -> None:
    def function(images: Tensor, prompts: list[str], metadata: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checked(function)(IMAGES, PROMPTS, {})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_images_that_are_not_finite_are_found_before_the_function_sees_them(value: float) -> None:
    images = IMAGES.clone()
    images[1, 0, 0, 0] = value
    with pytest.raises(RewardError, match=r"1 of 3 images with NaN .* first for the prompt 'one'"):
        returning([0.0] * 3, {})(images, PROMPTS, {})


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (IMAGES[0], PROMPTS, r"float tensor .* got torch.float32 of shape \(3, 2, 2\)"),
        (IMAGES[:, :2], PROMPTS, r"float tensor .* of shape \(3, 2, 2, 2\)"),
        (IMAGES.to(torch.uint8), PROMPTS, r"float tensor .* got torch.uint8"),
        (IMAGES, PROMPTS[:2], r"3 images need as many prompts, got 2"),
    ],
)
def test_ill_shaped_batches_are_refused(images: Tensor, prompts: list[str], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        returning([0.0] * 3, {})(images, prompts, {})


def test_declared_gradients_must_be_there() -> None:
    reward = checked(differentiable(lambda images, *_: (images.detach().mean((1, 2, 3)), {})))
    with pytest.raises(CtcontrolError, match=r"declared differentiable but its rewards carry no"):
        reward.probe(IMAGES, PROMPTS, {})


def test_declared_gradients_must_be_finite() -> None:
    reward = checked(differentiable(lambda images, *_: (images.sqrt().mean((1, 2, 3)), {})))
    assert IMAGES.min() == 0  # where the square root has slope infinity
    with pytest.raises(CtcontrolError, match=r"declared differentiable but its gradient .* NaN or"):
        reward.probe(IMAGES, PROMPTS, {})
