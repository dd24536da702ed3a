"""Reward by a classifier: how probable it finds what the prompt asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ctcontrol import CtcontrolError, check_count, check_positive
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards


@dataclass(frozen=True, eq=False)
class ClassifierAlignment:
    """max(log p(label | image), −clip) in nats, p = softmax of the classifier's logits.

    The label of an image is its entry in `metadata["labels"]`. The reward is at most 0, and is
    taken from the logits as they are: it is as well calibrated as the classifier is, so report
    alignment by another classifier than the one that rewards. Far from its training data a
    classifier's log-probability falls without bound; `clip` bounds what one image can contribute
    to a mean, at the price of no gradient below. Differentiable. `info` holds `correct`, whether
    the label is the most probable class.

    Attributes:
        classifier: images (n, c, h, w) in [−1, 1] -> logits (n, classes); a module must be in
            evaluation mode.
        clip: bound on |log p| in nats, > 0; None for none.
        rows: images classified together. Several thousand at once are three times slower on a
            CPU, whose caches they overflow.

    Raises:
        CtcontrolError: for a bad clip or number of rows, a module in training mode; when called,
            for labels that are missing, not integers, too few or unknown to the classifier.
    """

    classifier: Callable[[Tensor], Tensor]
    clip: float | None = 10.0
    rows: int = 512

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.clip is not None:
            check_positive("clip of the alignment reward", self.clip)
        check_count("rows of the alignment reward", self.rows)
        if isinstance(self.classifier, nn.Module) and self.classifier.training:
            raise CtcontrolError(
                "the classifier of the alignment reward is in training mode; call its eval() first"
            )

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        parts = (2 * images - 1).split(self.rows)
        logits = torch.cat([self.classifier(part) for part in parts])
        labels = _labels(metadata, *logits.shape).to(logits.device)
        log_probability = logits.log_softmax(-1).gather(1, labels[:, None]).squeeze(1)
        if self.clip is not None:
            log_probability = log_probability.clamp(min=-self.clip)
        return log_probability, {"correct": logits.detach().argmax(1) == labels}


def _labels(metadata: Metadata, n: int, classes: int) -> Int[Tensor, "n"]:
    if "labels" not in metadata:
        raise CtcontrolError(
            'metadata has no "labels", which say what class each image should be; it has '
            f"{sorted(metadata) or 'nothing'}"
        )
    labels = torch.as_tensor(metadata["labels"])
    if labels.shape != (n,) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise CtcontrolError(
            f"metadata['labels'] must be one integer an image, shape ({n},), got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    outside = labels[(labels < 0) | (labels >= classes)]
    if len(outside):
        raise CtcontrolError(
            f"metadata['labels'] must be in 0 … {classes - 1}, the classes of the classifier, got "
            f"{int(outside[0])}"
        )
    return labels.long()
