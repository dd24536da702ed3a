"""What can be chosen about a pretraining, and the command that says it."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ctcontrol import CtcontrolError, check_count, check_positive


@dataclass(frozen=True)
class DigitsPretraining:
    """Choices of a pretraining of the digits models."""

    out: Path = Path("runs/pretrain-digits")
    """Folder for the weights, training.json and MODEL_CARD.md; made if missing."""
    overwrite: bool = False
    """Replace the files that an earlier run left in the folder."""
    seed: int = 0
    """Seed of initial weights, minibatches and noise. The same seed, number of threads, processor
    and versions give the same bytes."""
    threads: int = 1
    """CPU threads. The last bits of the weights depend on their number."""
    wrong_probability: float = 0.5
    """Fraction of captions that are wrong, that is, one of the other nine digits."""
    iterations: int = 16_000
    """Updates of the denoiser."""
    batch_size: int = 128
    """Images per update of the denoiser."""
    learning_rate: float = 2e-3
    """Peak learning rate of the denoiser (AdamW)."""
    average_decay: float = 0.999
    """Decay per update of the moving average of weights, in [0, 1); for all three networks."""
    classifier_iterations: int = 6_000
    """Updates of each classifier."""
    classifier_batch_size: int = 256
    """Images per update of a classifier."""
    classifier_learning_rate: float = 2e-3
    """Peak learning rate of a classifier (AdamW)."""
    label_smoothing: float = 0.05
    """Mass spread over all ten digits in the targets of the reward, in [0, 1)."""

    def check(self) -> None:
        """Every value lies where it must; raises `CtcontrolError` naming the first that does not.

        Not at construction, so that the command line can tell a word it cannot read from a value
        that cannot be.
        """
        for name in (
            "threads",
            "iterations",
            "batch_size",
            "classifier_iterations",
            "classifier_batch_size",
        ):
            check_count(name, getattr(self, name))
        check_positive("learning_rate", self.learning_rate)
        check_positive("classifier_learning_rate", self.classifier_learning_rate)
        for name in ("average_decay", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise CtcontrolError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.wrong_probability <= 1:
            raise CtcontrolError(
                f"wrong_probability must lie in [0, 1], got {self.wrong_probability}"
            )
        if not 0 <= self.seed < 2**62:
            raise CtcontrolError(f"seed must lie in [0, 2^62), got {self.seed}")

    def command(self) -> str:
        """The command line of this configuration, defaults left out."""
        return command_of("digits", self)


def command_of(model: str, config: Any) -> str:
    """The command line that pretrains `model` with this dataclass, defaults left out."""
    words = ["python", "-m", "ctcontrol_diffusion.pretrain", model]
    for field in fields(config):
        value = getattr(config, field.name)
        if value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)
