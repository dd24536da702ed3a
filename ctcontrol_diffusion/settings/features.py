"""Features of images for a Fréchet distance, by name; never to be called FID unless Inception's."""

import importlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.images import read_images
from ctcontrol_diffusion.rewards import load_cifar_resnet

BATCH = 500

Features = Callable[[Tensor], Tensor]
"""Images (n, c, h, w) in [0, 1] -> (n, k)."""


def features_for(name: str | None, device: torch.device) -> Features | None:
    """The features called `name`: a file of CIFAR ResNet weights, or `module:function`.

    Raises:
        CtcontrolError: no such file, or module, or function.
    """
    if name is None:
        return None
    if ":" not in name:
        network = load_cifar_resnet(name).to(device)
        return lambda images: network.features(2 * images - 1)
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CtcontrolError(
            f"--problem.features {name}: {error}; name a function of images in [0, 1] that can be "
            "imported, or a file of CIFAR ResNet weights"
        ) from error
    return found


@torch.no_grad()
def real_features(
    path: str | None, features: Features | None, device: torch.device
) -> Tensor | None:
    """(m, k) of all images in a file or folder; None without features.

    Raises:
        CtcontrolError: there are features and no real images, or the images cannot be read.
    """
    if features is None:
        return None
    if path is None:
        raise CtcontrolError(
            "--problem.features needs real images to compare with; give --problem.real, an .npz "
            "of images or a folder of them"
        )
    images = read_images(Path(path))
    parts = images.split(BATCH)
    return torch.cat([features(part.to(device).float() / 255) for part in parts])
