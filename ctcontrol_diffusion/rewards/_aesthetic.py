"""The LAION aesthetic score: a small head on CLIP's image embedding."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ctcontrol_diffusion.rewards._clip import ClipEncoder, load_clip
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards
from ctcontrol_diffusion.rewards._towers import fill, find_file, frozen, read_tensors


class ScoreHead(nn.Module):
    """width → 1024 → 128 → 64 → 16 → 1, affine from end to end: dropout, but no activations.

    The published head of the aesthetic predictor and of ImageReward, under its published names
    `layers.0`, `layers.2`, `layers.4`, `layers.6`, `layers.7`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, width) -> (n,)."""
        return self.layers(features).squeeze(-1)


@dataclass(frozen=True, eq=False)
class Aesthetic:
    """head(unit CLIP image embedding): a rating from about 1 to 10, of the image alone.

    Differentiable, and being affine in a unit vector easily overoptimised: watch another reward
    beside it.

    Attributes:
        encoder: CLIP ViT-L/14 for the published head.
        head: a module in evaluation mode, on the encoder's device.
    """

    encoder: ClipEncoder
    head: nn.Module

    differentiable: ClassVar[bool] = True

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        embeddings = self.encoder.images(images)
        weight = next(self.head.parameters())
        return self.head(embeddings.to(weight.device)).to(images.device), {}


def aesthetic(
    *,
    head: str = "trl-lib/ddpo-aesthetic-predictor",
    file: str = "aesthetic-model.pth",
    model: str = "openai/clip-vit-large-patch14",
    rows: int = 32,
    device: str = "cpu",
    dtype: str = "float32",
) -> Aesthetic:
    """LAION's improved aesthetic predictor (christophschuhmann, Apache-2.0).

    `head` is a path (for example of sac+logos+ava1-l14-linearMSE.pth) or a hub model that has
    `file`. The head computes in float32 whatever the dtype of CLIP.

    Raises:
        CtcontrolError: when files are missing or do not fit each other.
    """
    path = find_file(head, file, "aesthetic")
    tensors = read_tensors(path)
    encoder = load_clip(model, model, "aesthetic", rows=rows, device=device, dtype=dtype)
    width = int(encoder.model.config.projection_dim)
    with torch.random.fork_rng(devices=[]):  # initial weights, replaced at once
        network = fill(ScoreHead(width), tensors, path)
    return Aesthetic(encoder, frozen(network, device, torch.float32))
