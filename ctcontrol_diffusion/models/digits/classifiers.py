"""Two small digit classifiers of different architecture: one rewards, the other judges."""

from abc import ABC, abstractmethod
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctcontrol import CtcontrolError

from ._weights import fill, read_shipped, read_weights, save_weights
from .data import CLASSES, IMAGE_SHAPE

Images = Float[Tensor, "n 1 8 8"]


class DigitClassifier(nn.Module, ABC):
    """Images to logits of the ten digits through a feature vector.

    ``forward(images)`` maps $(n, 1, 8, 8)$ in [-1, 1] to logits $(n, 10)$; ``features(images)``
    gives the penultimate layer $(n, k)$, the space of the Fréchet distance. Activations are smooth
    (GELU), since gradients with respect to the image feed closed-form advantages.
    """

    head: nn.Linear

    @abstractmethod
    def features(self, images: Images) -> Float[Tensor, "n k"]:
        """Penultimate activations."""

    def forward(self, images: Images) -> Float[Tensor, "n 10"]:
        """Logits, that is log-probabilities up to a constant per image."""
        return self.head(self.features(images))


class ConvolutionalClassifier(DigitClassifier):
    """Three 3x3 convolutions (8x8 → 8x8 → 4x4 → 2x2), a 48-d layer, the head: the *reward*."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(IMAGE_SHAPE[0], 16, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 48, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(64 * 2 * 2, 48),
            nn.GELU(),
        )
        self.head = nn.Linear(48, CLASSES)

    def features(self, images: Images) -> Float[Tensor, "n k"]:
        return self.body(images)


class DenseClassifier(DigitClassifier):
    """A multilayer perceptron on the 64 pixels (64 → 256 → 128 → 48 → head): the *judge*.

    It shares neither weights nor the inductive bias of the convolutional one, so an image that
    merely fools the reward does not fool the judge.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 256),
            nn.LayerNorm(256),
            nn.GELU(),
            nn.Linear(256, 128),
            nn.LayerNorm(128),
            nn.GELU(),
            nn.Linear(128, 48),
            nn.GELU(),
        )
        self.head = nn.Linear(48, CLASSES)

    def features(self, images: Images) -> Float[Tensor, "n k"]:
        return self.body(images)


_CLASSIFIERS: dict[str, type[DigitClassifier]] = {
    "reward": ConvolutionalClassifier,
    "judge": DenseClassifier,
}


def classifier_names() -> tuple[str, ...]:
    """The names :func:`load_classifier` knows: ``reward`` and ``judge``."""
    return tuple(_CLASSIFIERS)


def new_classifier(name: str) -> DigitClassifier:
    """A freshly initialized classifier (global torch generator).

    Raises:
        CtcontrolError: when ``name`` is neither ``reward`` nor ``judge``.
    """
    if name not in _CLASSIFIERS:
        known = " or ".join(_CLASSIFIERS)
        raise CtcontrolError(f"no digit classifier is called {name!r}; ask for {known}")
    return _CLASSIFIERS[name]()


def load_classifier(
    name: str, path: str | Path | None = None, device: str | torch.device = "cpu"
) -> DigitClassifier:
    """A pretrained classifier: float32, eval mode, parameters frozen.

    Args:
        name: ``reward`` (convolutional) or ``judge`` (dense).
        path: a file of :func:`save_classifier`; by default the weights shipped with the package.
        device: where the network goes.

    Raises:
        CtcontrolError: when the name is unknown, or the file is missing, corrupt or another's.
    """
    classifier = new_classifier(name)
    if path is None:
        _, tensors = read_shipped(asset(name), kind=_kind(name))
    else:
        _, tensors = read_weights(path, kind=_kind(name))
    fill(classifier, tensors, path or asset(name))
    return classifier.to(device).eval().requires_grad_(False)


def save_classifier(classifier: DigitClassifier, name: str, path: str | Path) -> None:
    """Writes ``classifier`` as float16 safetensors, atomically.

    Raises:
        CtcontrolError: when the file cannot be written.
    """
    save_weights(classifier, path, kind=_kind(name), architecture={})


def asset(name: str) -> str:
    """File name of a classifier's weights."""
    return f"classifier_{name}.safetensors"


def _kind(name: str) -> str:
    return f"digits-classifier-{name}"
