"""The CIFAR-10 ResNets of 0.27 and 0.85 million weights, as rewards and as features."""

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards._towers import fill, read_tensors

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# Channel statistics that the published weights were trained with (pytorch_resnet_cifar10).
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without weights (option A of He et al. 2015)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.stride, self.more = stride, outside - inside

    def forward(self, x: Tensor) -> Tensor:
        short = x
        if self.more:  # every second pixel, and zeros on either side of the channels
            padding = (0, 0, 0, 0, self.more // 2, self.more - self.more // 2)
            short = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], padding)
        return torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + short)


class CifarResNet(nn.Module):
    """Images (n, 3, 32, 32) in [−1, 1] -> logits (n, classes); 6 · blocks + 2 layers.

    He et al. 2015, "Deep Residual Learning for Image Recognition", section 4.2, under the names of
    akamaster/pytorch_resnet_cifar10. Normalises by itself.

    Attributes:
        blocks: residual blocks in each of the three stages, 3 for ResNet-20 and 9 for ResNet-56.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, blocks: int, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, classes)
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def features(self, images: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n 64"]:
        """Penultimate activations, averaged over pixels: the space of a Fréchet distance."""
        x = ((images + 1) / 2 - self.mean) / self.std
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, images: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n classes"]:
        """Logits, that is log-probabilities up to a constant an image."""
        return self.linear(self.features(images))


def _stage(inside: int, outside: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(inside, outside, stride)
    return nn.Sequential(first, *(_Block(outside, outside, 1) for _ in range(blocks - 1)))


def load_cifar_resnet(path: str | Path) -> CifarResNet:
    """A frozen ResNet from .npz, .safetensors or a state dictionary of torch; depth from the names.

    Names may begin with `module.`, as those of the published .th files do.

    Raises:
        CtcontrolError: when the file is missing, unreadable or of another network.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CtcontrolError(
            f"no weights of a CIFAR ResNet at {path}; give the path of the .npz, .safetensors or "
            ".th file"
        )
    tensors = _npz(path) if path.suffix == ".npz" else read_tensors(path)
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    matches = (re.match(r"layer1\.(\d+)\.", name) for name in tensors)
    blocks = [int(match[1]) for match in matches if match]
    if not blocks or "linear.weight" not in tensors:
        raise CtcontrolError(f"{path} holds no CIFAR ResNet (layer1.0.conv1.weight, linear.weight)")
    with torch.random.fork_rng(devices=[]):  # initial weights, replaced at once
        network = CifarResNet(max(blocks) + 1, len(tensors["linear.weight"]))
    # Counts of batches seen matter to training alone, and are not in every file.
    counts = {k: v for k, v in network.state_dict().items() if k.endswith("num_batches_tracked")}
    return fill(network, counts | tensors, path).eval().requires_grad_(False)


def _npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise CtcontrolError(f"{path} is not a readable .npz file: {error}") from error
