"""Reward by a class: how sure a classifier of CIFAR-10 is of one, whatever the prompt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError, check_count
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards
from ctcontrol_diffusion.rewards._resnet import CIFAR10_CLASSES, load_cifar_resnet

Measure = Literal["log-probability", "logit"]


@dataclass(frozen=True, eq=False)
class ClassScore:
    """log p(target | image) in nats, or the logit of the target, which is not bounded above.

    Differentiable. Report the class by another classifier than the one that rewards. `info` holds
    `correct`, whether the target is the most probable class.

    Attributes:
        classifier: images (n, c, h, w) in [−1, 1] -> logits (n, classes); a module must be in
            evaluation mode.
        target: the class, counted from 0.
        measure: which of the two.
        rows: images classified together.

    Raises:
        CtcontrolError: for a module in training mode or a bad number; when called, for a target
            that the classifier has not.
    """

    classifier: Callable[[Tensor], Tensor]
    target: int
    measure: Measure = "log-probability"
    rows: int = 512

    differentiable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("target of the classifier reward", self.target, 0)
        check_count("rows of the classifier reward", self.rows)
        if isinstance(self.classifier, nn.Module) and self.classifier.training:
            raise CtcontrolError("the classifier is in training mode; call its eval() first")

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        logits = torch.cat([self.classifier(part) for part in (2 * images - 1).split(self.rows)])
        if self.target >= logits.shape[1]:
            raise CtcontrolError(
                f"target of the classifier reward must be in 0 … {logits.shape[1] - 1}, got "
                f"{self.target}"
            )
        scores = logits.log_softmax(1) if self.measure == "log-probability" else logits
        return scores[:, self.target], {"correct": logits.detach().argmax(1) == self.target}


def classifier(
    *,
    weights: str,
    target: int | str,
    measure: Measure = "log-probability",
    rows: int = 512,
    device: str = "cpu",
) -> ClassScore:
    """A :class:`ClassScore` of a :class:`CifarResNet` in a file; images must be 32 × 32.

    `target` is a number or, of ten classes, the name (`airplane` … `truck`).

    Raises:
        CtcontrolError: when the file is missing or of another network, or the target unknown.
    """
    network = load_cifar_resnet(weights).to(device)
    if isinstance(target, str):
        if target not in CIFAR10_CLASSES:
            raise CtcontrolError(
                f"target of the classifier reward must be a number or one of "
                f"{', '.join(CIFAR10_CLASSES)}, got {target!r}"
            )
        target = CIFAR10_CLASSES.index(target)
    if target >= network.linear.out_features:
        raise CtcontrolError(
            f"target of the classifier reward must be in 0 … {network.linear.out_features - 1}, "
            f"got {target}"
        )
    return ClassScore(network, target, measure, rows)
