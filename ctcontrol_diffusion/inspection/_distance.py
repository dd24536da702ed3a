"""The Fréchet distance to real images, and what it may be called."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ctcontrol_diffusion.frechet import frechet_distance, frechet_error

PROTOCOL = 50_000
"""Images that published FIDs are computed from; fewer are biased upwards."""
INCEPTION = "inception"


class Features(Protocol):
    """A function of images (n, channels, h, w) in [0, 1], (n, k) features of them.

    Of every image by itself: batches are cut at will.
    """

    def __call__(self, images: Tensor, /) -> Tensor:
        """(n, k)."""
        ...


@dataclass(frozen=True, eq=False)
class RealImages:
    """What generated images are compared with.

    Attributes:
        features: of images.
        real: (m, k), features of the real ones.
        name: of the features: `inception`, a file, or `module:function`.
    """

    features: Features
    real: Tensor
    name: str = "features"

    def distance(self, features: Tensor) -> tuple[float, float]:
        """Fréchet distance of features (n, k) to the real ones, with its standard error."""
        return frechet_distance(features, self.real), frechet_error(features, self.real)

    def number(self, images: int) -> str:
        """The name of the distance in a row: it is an FID by Inception's features alone.

        From fewer than the 50,000 images of the protocol it says so, `FID-10k (proxy)`: the
        distance falls with the number of images, so that it compares with none of another number.
        """
        if self.name != INCEPTION:
            return "frechet"
        return "FID" if images >= PROTOCOL else f"FID-{thousands(images)} (proxy)"

    def title(self, images: int) -> str:
        """The same for people, of other features too: `Fréchet-500 (proxy)`."""
        number = self.number(images)
        if number != "frechet":
            return number
        proxy = "" if images >= PROTOCOL else " (proxy)"
        return f"Fréchet-{thousands(images)}{proxy}"

    def about(self, images: int) -> dict[str, str | int]:
        """What an evaluation says of its distances."""
        return {
            "number": self.number(images),
            "called": self.title(images),
            "features": self.name,
            "images": images,
            "real_images": len(self.real),
        }


def thousands(images: int) -> str:
    """`10k` for 10,000; 500 for 500."""
    return f"{images // 1000}k" if images and images % 1000 == 0 else str(images)
