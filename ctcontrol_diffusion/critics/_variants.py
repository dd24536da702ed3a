"""The value networks that are compared, by name."""

from dataclasses import replace
from typing import Any

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.config import Config

_PARTS: dict[str, dict[str, Any]] = {
    "perceptron": {"design": "perceptron"},
    "convolution": {"design": "convolution"},
    "convolution-no-guess": {"design": "convolution", "first": "none", "link": "const"},
    "features": {"design": "features"},
    "features-no-guess": {"design": "features", "first": "none", "link": "const"},
    "tower": {"design": "tower"},
    "tower-linear": {"design": "tower", "link": "linear"},
    "tower-const": {"design": "tower", "link": "const"},
    "tower-1-cos": {"design": "tower", "link": "cos-one-minus-cos"},
    "tower-variance": {"design": "tower", "link": "variance"},
    "tower-first-original": {"design": "tower", "first": "original"},
    "tower-second-denoised": {"design": "tower", "second": "denoised"},
}

NAMES = tuple(_PARTS)


def variant(config: Config, name: str) -> Config:
    """`config` with the value network called `name`, whose other numbers stay as they are.

    Raises:
        CtcontrolError: there is no such name.
    """
    if name not in _PARTS:
        raise CtcontrolError(f"there is no value network {name!r}; there are {', '.join(NAMES)}")
    usual: dict[str, Any] = {"first": "denoised", "second": "original", "link": "cos-sin"}
    return replace(config, critic=replace(config.critic, **usual | _PARTS[name]))
