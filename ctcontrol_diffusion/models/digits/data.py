"""The 1,797 real digits of scikit-learn as images in [-1, 1], and captions that are often wrong."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from ctcontrol import CtcontrolError

CLASSES = 10
IMAGE_SHAPE = (1, 8, 8)
INK = 16.0  # a pixel counts the dark bits of a 4x4 block of the original 32x32 bitmap: 0..16
HELD_OUT_FRACTION = 0.2
SPLIT_SEED = 0

Split = Literal["train", "heldout", "all"]


@dataclass(frozen=True)
class DigitsData:
    """Digits with their labels.

    Attributes:
        images: $(n, 1, 8, 8)$ float32 in [-1, 1]; -1 is paper, 1 is ink.
        labels: $(n,)$ int64, the digit 0..9.
    """

    images: Float[Tensor, "n 1 8 8"]
    labels: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def digits_data(split: Split = "all") -> DigitsData:
    r"""Real handwritten digits, pixel $= v/8 - 1$ for the stored value $v \in \{0, \dots, 16\}$.

    The split is stratified by digit and fixed: 1,437 images for ``"train"``, 360 for
    ``"heldout"``. Only the classifiers use it; ``"all"`` has all 1,797 in their original order.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository (1998), doi:10.24432/C50P49; its test set, as shipped with scikit-learn.

    Raises:
        CtcontrolError: when ``split`` is not one of the three names.
    """
    if split not in get_args(Split):
        raise CtcontrolError(f"split must be one of {', '.join(get_args(Split))}, got {split!r}")
    pixels, digits = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, dtype=torch.float32).view(-1, *IMAGE_SHAPE) / (INK / 2) - 1
    labels = torch.as_tensor(digits, dtype=torch.int64)
    if split == "all":
        return DigitsData(images, labels)
    train, held_out = train_test_split(
        range(len(labels)),
        test_size=HELD_OUT_FRACTION,
        stratify=labels.numpy(),
        random_state=SPLIT_SEED,
    )
    rows = torch.tensor(sorted(train if split == "train" else held_out))
    return DigitsData(images[rows], labels[rows])


def noisy_captions(
    labels: Int[Tensor, " n"], *, wrong_probability: float = 0.5, generator: torch.Generator
) -> Int[Tensor, " n"]:
    r"""Captions of which a fraction is wrong, as captions on the web are.

    Independently for every label $y$ the caption $c$ has

    $$P(c = y) = 1 - p, \qquad P(c = k) = p/9 \quad (k \ne y),$$

    with $p$ = ``wrong_probability``: a wrong caption is one of the nine *other* digits, uniformly,
    so captions are right with probability exactly $1 - p$.

    Args:
        labels: $(n,)$ true digits.
        wrong_probability: $p \in [0, 1]$.
        generator: source of randomness, on the device of ``labels``.

    Returns:
        $(n,)$ captions, dtype and device of ``labels``.

    Raises:
        CtcontrolError: when ``wrong_probability`` lies outside [0, 1].
    """
    if not 0 <= wrong_probability <= 1:
        raise CtcontrolError(
            f"wrong_probability must lie between 0 and 1, got {wrong_probability}; "
            "0 keeps every caption right"
        )
    shape, device = labels.shape, labels.device
    wrong = torch.rand(shape, generator=generator, device=device) < wrong_probability
    shift = torch.randint(1, CLASSES, shape, generator=generator, device=device)
    return torch.where(wrong, (labels + shift) % CLASSES, labels)
