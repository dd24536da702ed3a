"""The features that an FID is made of: the Inception network of 2015, through torchmetrics."""

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ctcontrol import CtcontrolError

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
"""Name of the published file, of https://github.com/toshas/torch-fidelity/releases."""
ADDRESS = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"


def load_inception(
    weights: str | None, device: torch.device, *, flag: str = "--features"
) -> Callable[[Tensor], Tensor]:
    """Images (n, 1 or 3, h, w) in [0, 1] -> (n, 2048) features of their bytes.

    Gray images are given three equal channels. The network resizes to 299 × 299 as TensorFlow did,
    so that the numbers are those of published FIDs.

    Args:
        weights: path of `WEIGHTS`; where torch keeps its downloads, if None.
        device: of the network.
        flag: what asked for it, for messages.

    Raises:
        CtcontrolError: torchmetrics or torch-fidelity is not installed; there is no such file, or
            it holds other weights, or anything but tensors.
    """
    try:
        fid: Any = importlib.import_module("torchmetrics.image.fid")
        importlib.import_module("torch_fidelity")
    except (ImportError, RuntimeError) as error:  # of torchvision, that is for another torch
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CtcontrolError(
            f"{flag} inception needs torchmetrics and torch-fidelity, which cannot be imported "
            f"({reason}); install them with: pip install 'ctcontrol[fid]'"
        ) from error
    path = Path(weights).expanduser() if weights else kept()
    if not path.is_file():
        raise CtcontrolError(
            f"{flag} inception: there are no weights at {path}; download {ADDRESS} to there, or "
            f"give another path by {flag} inception=FILE"
        )
    try:
        # torch-fidelity reads the file with pickle: only what holds tensors alone gets there
        torch.load(path, map_location="cpu", weights_only=True)
        network = fid.NoTrainInceptionV3(
            name="inception-v3-compat", features_list=["2048"], feature_extractor_weights_path=path
        )
    except Exception as error:  # of torch.load, of zip files, of the state dict
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CtcontrolError(
            f"{flag} inception: {path} does not hold Inception's weights ({reason}); download "
            f"{ADDRESS} again"
        ) from error
    network = network.to(device)

    def features(images: Tensor) -> Tensor:
        """(n, 2048)."""
        pixels = (images * 255).round().clamp(0, 255).to(torch.uint8)
        return network(pixels.expand(-1, 3, -1, -1)).reshape(len(images), -1).float()

    return features


def kept() -> Path:
    """Where torch would put the file."""
    home = os.environ.get("TORCH_HOME") or Path(torch.hub.get_dir()).parent
    return Path(home) / "hub" / "checkpoints" / WEIGHTS
