"""Rewards by name: the built-in ones, sums of them, a server's, and your own."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards._alignment import ClassifierAlignment
from ctcontrol_diffusion.rewards._checked import CheckedReward
from ctcontrol_diffusion.rewards._contract import RewardFunction
from ctcontrol_diffusion.rewards._imported import imported
from ctcontrol_diffusion.rewards._jpeg import JPEGCompressibility, JPEGIncompressibility
from ctcontrol_diffusion.rewards._options import hint, made, split_options
from ctcontrol_diffusion.rewards._pixels import Brightness, Symmetry
from ctcontrol_diffusion.rewards._remote import RemoteReward
from ctcontrol_diffusion.rewards._retry import Retried
from ctcontrol_diffusion.rewards._sum import is_sum, parsed_sum

_ALIGNMENT = "alignment"
_BUILT_IN: dict[str, Callable[..., RewardFunction]] = {
    "jpeg-compressibility": JPEGCompressibility,
    "jpeg-incompressibility": JPEGIncompressibility,
    "brightness": Brightness,
    "symmetry": Symmetry,
}
# Name -> where the function is that loads it; imported when asked for.
_WITH_WEIGHTS: dict[str, tuple[str, str]] = {
    "aesthetic": ("_aesthetic", "aesthetic"),
    "clip-score": ("_clip", "clip_score"),
    "pickscore": ("_clip", "pick_score"),
    "hps-v2": ("_clip", "hps_v2"),
    "image-reward": ("_image_reward", "image_reward"),
    "classifier": ("_classifier", "classifier"),
}


def reward_names() -> tuple[str, ...]:
    """The built-in rewards without files; the first is `alignment`, which needs a classifier."""
    return (_ALIGNMENT, *_BUILT_IN)


def model_reward_names() -> tuple[str, ...]:
    """The built-in rewards that are networks with weights in files, by path or from a hub."""
    return tuple(_WITH_WEIGHTS)


def load_reward(
    name: str, *, classifier: Callable[[Tensor], Tensor] | None = None, device: str = "cpu"
) -> CheckedReward:
    """The reward called `name`, checked at every call.

    Args:
        name: one of

            * :func:`reward_names` or :func:`model_reward_names`, with options as in
              `clip-score,model=PATH,scale=100`; the options are the arguments of the function or
              class of that name;
            * `module:function` for a :class:`RewardFunction` that can be imported from the current
              directory or the installed packages. `function` may be any attribute, also of
              attributes (`module:CONFIG.reward`), that is callable;
            * `sum:0.5*NAME+1.0*NAME…`, a :class:`WeightedReward` of any of these;
            * `http://…` or `https://…`, a :class:`RemoteReward`, asked again when it fails.
        classifier: images in [−1, 1] -> logits; `alignment` alone needs it.
        device: of the networks, if the name has any and no option says otherwise.

    Raises:
        CtcontrolError: when the name is unknown or lacks its classifier; when an option is unknown
            or of the wrong kind, or weights are missing or do not fit; when the module is not found
            or fails to import; when the attribute is missing, not callable, a class, or cannot be
            called with (images, prompts, metadata).
    """
    if name.startswith(("http://", "https://")):
        return CheckedReward(name, Retried(RemoteReward(name)))
    if is_sum(name):
        load = partial(load_reward, classifier=classifier, device=device)
        return CheckedReward(name, parsed_sum(name, load))
    base, options = split_options(name)
    if ":" in base:
        return CheckedReward(name, imported(name))
    if base == _ALIGNMENT:
        if classifier is None:
            raise CtcontrolError(
                f"the reward {name!r} needs a classifier; use a setting that has one, or name "
                f"another reward: {', '.join(_BUILT_IN)}"
            )
        return CheckedReward(name, made(base, ClassifierAlignment, options, classifier=classifier))
    if base not in _BUILT_IN and base not in _WITH_WEIGHTS:
        names = (*reward_names(), *model_reward_names())
        raise CtcontrolError(
            f"unknown reward {base!r}; {hint(base, names)}there are {', '.join(names)}, "
            "your own as module:function, sum:… of several, and http://…"
        )
    return CheckedReward(name, made(base, _maker(base), options, device=device))


def _maker(name: str) -> Callable[..., Any]:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    module, function = _WITH_WEIGHTS[name]
    return getattr(import_module(f"ctcontrol_diffusion.rewards.{module}"), function)
