"""What can be chosen about a pretraining, and the command that says it."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from ctcontrol import CtcontrolError, check_count, check_positive


@dataclass(frozen=True)
class DigitsPretraining:
    """Train the digits denoiser and its two classifiers from nothing, about 20 minutes on 2 cores.

    Writes denoiser.safetensors, classifier_reward.safetensors, classifier_judge.safetensors,
    training.json and MODEL_CARD.md, all at the end.

    Attributes:
        out: Folder for the five files; made if missing.
        overwrite: Replace the files that an earlier run left in the folder.
        seed: Seed of initial weights, minibatches and noise. The same seed, threads, processor and
            versions give the same bytes.
        threads: CPU threads.
        wrong_probability: Fraction of captions that are wrong (one of the other nine digits).
        iterations: Updates of the denoiser.
        batch_size: Images per update of the denoiser.
        learning_rate: Peak learning rate of the denoiser (AdamW).
        average_decay: Decay per update of the moving average of weights (all three networks).
        classifier_iterations: Updates of each classifier.
        classifier_batch_size: Images per update of a classifier.
        classifier_learning_rate: Peak learning rate of a classifier (AdamW).
        label_smoothing: Mass spread over all ten digits in the reward's targets, in [0, 1).
    """

    out: Path = Path("runs/pretrain-digits")
    overwrite: bool = False
    seed: int = 0
    threads: int = 2
    wrong_probability: float = 0.5
    iterations: int = 14_000
    batch_size: int = 256
    learning_rate: float = 2e-3
    average_decay: float = 0.999
    classifier_iterations: int = 6_000
    classifier_batch_size: int = 256
    classifier_learning_rate: float = 2e-3
    label_smoothing: float = 0.05

    def __post_init__(self) -> None:
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
        words = ["python", "-m", "ctcontrol_diffusion.pretrain", "digits"]
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                flag = field.name.replace("_", "-")
                words += [f"--{flag}"] if value is True else [f"--{flag}", str(value)]
        return shlex.join(words)
