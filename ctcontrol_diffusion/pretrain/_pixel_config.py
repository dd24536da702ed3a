"""What can be chosen about the pretraining of a model of pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ctcontrol import CtcontrolError, check_count, check_positive

from ._config import command_of
from ._fit import FitOptions
from ._networks import Betas, Prediction, Size


@dataclass(frozen=True)
class PixelPretraining:
    """Choices of a pretraining on images of your own."""

    images: Path | None = None
    """The images: an .npz file, a folder of them, or a folder of PNG and JPEG files, all of one
    size. Needed."""
    out: Path = Path("runs/pretrain-cifar10")
    """Folder for the checkpoint and, in the end, model/ with the pipeline; made if missing."""
    network: Size = "small"
    """small (1.1 million parameters, for a CPU) or the architecture of google/ddpm-cifar10-32
    (35.7 million)."""
    betas: Betas = "linear"
    """Noise schedule of 1000 steps: linear β, or cosine."""
    prediction: Prediction = "epsilon"
    """What the network predicts: the noise (epsilon), or v, which is easier to learn where there
    is much noise and so better with few updates."""
    iterations: int = 5000
    """Updates of the network."""
    batch_size: int = 32
    """Images per update."""
    learning_rate: float = 1e-3
    """Peak learning rate (AdamW); falls to 0 along a cosine."""
    average_decay: float = 0.999
    """Decay per update of the moving average of weights, in [0, 1). The average is what is kept."""
    dropout: float = 0.0
    """Dropout in residual blocks, in [0, 1); the published CIFAR-10 model had 0.1."""
    flips: bool = True
    """Mirror images at random."""
    seed: int = 0
    """Seed of initial weights, minibatches and noise, in [0, 2^62)."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    threads: int = 1
    """CPU threads. The last bits of the weights depend on their number."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in, by autocast; weights are float32 all the same."""
    compile: bool = False
    """Compile the network (torch.compile): worth its minutes on a GPU."""
    checkpoint_every: int = 500
    """Iterations between two checkpoints."""

    def check(self) -> "PixelPretraining":
        """Itself; raises `CtcontrolError` naming the first value that cannot be."""
        if self.images is None:
            raise CtcontrolError(
                "there are no images to train on; give --images, an .npz of `images` (uint8, n × "
                "height × width × channels) or a folder of PNG and JPEG files"
            )
        for name in ("iterations", "batch_size", "threads", "checkpoint_every"):
            check_count(name, getattr(self, name))
        check_positive("learning_rate", self.learning_rate)
        for name in ("average_decay", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise CtcontrolError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.seed < 2**62:
            raise CtcontrolError(f"seed must lie in [0, 2^62), got {self.seed}")
        return self

    def fit(self) -> FitOptions:
        """How the network is fitted."""
        return FitOptions(
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            weight_decay=0.0,
            average_decay=self.average_decay,
        )

    def command(self) -> str:
        """The command line of this configuration, defaults left out."""
        return command_of("cifar10", self)
