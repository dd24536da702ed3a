from pathlib import Path

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.digits import (
    classifier_names,
    digits_data,
    load_classifier,
    new_classifier,
    save_classifier,
)

NAMES = classifier_names()


def accuracy(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
    return (load_classifier(name)(images).argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize("name", NAMES)
def test_shipped_classifiers_read_held_out_digits(name: str) -> None:
    data = digits_data("heldout")
    assert accuracy(name, data.images, data.labels) >= 0.97


@pytest.mark.parametrize("name", NAMES)
def test_shipped_classifiers_stand_small_changes(name: str, generator: torch.Generator) -> None:
    data = digits_data("heldout")
    noise = 0.2 * torch.randn(data.images.shape, generator=generator)
    assert accuracy(name, data.images + noise, data.labels) >= 0.97
    shifted = torch.nn.functional.pad(data.images, (0, 0, 1, 0), value=-1)[:, :, :8]
    assert accuracy(name, shifted, data.labels) >= 0.9


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_the_head_of_the_features(name: str) -> None:
    classifier, images = load_classifier(name), digits_data("heldout").images[:7]
    features = classifier.features(images)
    assert features.shape[0] == 7
    assert 32 <= features.shape[1] <= 64
    assert torch.equal(classifier(images), classifier.head(features))
    assert classifier(images).shape == (7, 10)


@pytest.mark.parametrize("name", NAMES)
def test_loaded_classifiers_are_frozen_but_let_gradients_through(name: str) -> None:
    classifier = load_classifier(name)
    assert not classifier.training
    assert not any(p.requires_grad for p in classifier.parameters())
    images = digits_data("heldout").images[:3].requires_grad_()
    classifier(images).log_softmax(1)[:, 0].sum().backward()
    assert images.grad is not None
    assert images.grad.flatten(1).norm(dim=1).min() > 0


def test_the_reward_is_bounded_on_real_digits() -> None:
    """Label smoothing: log p of every digit, right or wrong, stays moderate on real images."""
    log_probability = load_classifier("reward")(digits_data().images).log_softmax(1)
    assert log_probability.min() > -12
    assert log_probability.min(dim=1).values.mean() > -8


def test_reward_and_judge_differ_in_architecture() -> None:
    reward, judge = (load_classifier(name) for name in ("reward", "judge"))
    shapes = [
        [tuple(p.shape) for p in c.get_submodule("body").parameters()] for c in (reward, judge)
    ]
    assert not set(shapes[0]) & {s for s in shapes[1] if len(s) > 1}


def test_saving_and_loading_keeps_the_weights(tmp_path: Path) -> None:
    shipped = load_classifier("judge")
    save_classifier(shipped, "judge", tmp_path / "judge.safetensors")
    again = load_classifier("judge", tmp_path / "judge.safetensors")
    for a, b in zip(shipped.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["judge.safetensors"]


def test_one_classifier_is_not_taken_for_the_other(tmp_path: Path) -> None:
    save_classifier(new_classifier("judge"), "judge", tmp_path / "x.safetensors")
    with pytest.raises(CtcontrolError, match="digits-classifier-judge"):
        load_classifier("reward", tmp_path / "x.safetensors")


def test_an_unknown_classifier_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="ask for reward or judge"):
        load_classifier("jury")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_classifier(new_classifier("judge"), "reward", tmp_path / "x.safetensors")
    with pytest.raises(CtcontrolError, match="do not fit"):
        load_classifier("reward", tmp_path / "x.safetensors")
