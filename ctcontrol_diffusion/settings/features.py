"""Features of images for a Fréchet distance, by name."""

import importlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.inspection import Features, RealImages
from ctcontrol_diffusion.models.images import read_images
from ctcontrol_diffusion.rewards import load_cifar_resnet

BATCH = 500


def features_for(
    name: str | None, device: torch.device, *, flag: str = "--problem.features"
) -> Features | None:
    """The features called `name`.

    Args:
        name: a file of CIFAR ResNet weights; `module:function` of images in [0, 1]; `inception` or
            `inception=FILE`, the features of an FID, as torchmetrics has them; None for none.
        device: of the network.
        flag: what to call it in messages.

    Raises:
        CtcontrolError: no such file, or module, or function, or no Inception on this machine.
    """
    if name is None:
        return None
    if name.partition("=")[0] == "inception":
        from ctcontrol_diffusion.models.inception import load_inception

        return load_inception(name.partition("=")[2] or None, device, flag=flag)
    if ":" not in name:
        network = load_cifar_resnet(name).to(device)
        return lambda images: network.features(2 * images - 1)
    module, _, function = name.partition(":")
    try:
        found: Callable[[Tensor], Tensor] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise CtcontrolError(
            f"{flag} {name}: {error}; name a function of images in [0, 1] that can be "
            "imported, or a file of CIFAR ResNet weights"
        ) from error
    return found


def real_images(
    name: str | None,
    path: str | None,
    device: torch.device,
    *,
    flags: tuple[str, str] = ("--problem.features", "--problem.real"),
) -> RealImages | None:
    """All images in a file or folder by the features called `name`; None without features.

    Raises:
        CtcontrolError: as `features_for`; there are features and no real images, or the images
            cannot be read; the features are not (images, k) finite numbers.
    """
    features = features_for(name, device, flag=flags[0])
    if name is None or features is None:
        return None
    if path is None:
        raise CtcontrolError(
            f"{flags[0]} needs real images to compare with; give {flags[1]}, an .npz "
            "of images or a folder of them"
        )
    images = read_images(Path(path))
    with torch.no_grad():
        parts = [_features(name, features, part, device) for part in images.split(BATCH)]
    return RealImages(features, torch.cat(parts), name.partition("=")[0])


def _features(name: str, features: Features, images: Tensor, device: torch.device) -> Tensor:
    found = features(images.to(device).float() / 255)
    if found.ndim != 2 or len(found) != len(images) or not bool(found.isfinite().all()):
        raise CtcontrolError(
            f"the features {name!r} must be finite and of shape (images, k), got "
            f"{tuple(found.shape)} for {len(images)} images; correct the function"
        )
    return found
