"""A copy of a reward whose networks learn."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

from torch import nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards._alignment import ClassifierAlignment
from ctcontrol_diffusion.rewards._checked import CheckedReward
from ctcontrol_diffusion.rewards._sum import Term, WeightedReward


class TrainableReward(NamedTuple):
    """A reward that learns.

    Attributes:
        reward: with the same answers as its original, at first.
        networks: inside it; the last layers of each require gradients.
    """

    reward: CheckedReward
    networks: nn.ModuleList


def trainable_copy(reward: CheckedReward, share: float) -> TrainableReward | None:
    """A copy of `reward` whose networks' last layers learn; None where it has none to learn.

    Networks are sought in the function's attributes, and theirs. Layers are modules with
    parameters of their own, in the order of their definition, of which the last ⌈share · n⌉ learn.
    Bounds that would stop gradients (`clip` of the alignment reward) are taken off the copy.

    Args:
        reward: any; one that is not differentiable has no copy.
        share: in (0, 1].

    Raises:
        CtcontrolError: a share out of its range.
    """
    if not 0 < share <= 1:
        raise CtcontrolError(f"the share of layers that learn must be in (0, 1], got {share}")
    if not reward.differentiable or not any(True for _ in _networks(reward.function, set())):
        return None
    function = _unbounded(copy.deepcopy(reward.function))
    networks = nn.ModuleList(_networks(function, set()))
    for network in networks:
        layers = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
        learning = layers[len(layers) - math.ceil(share * len(layers)) :]
        network.requires_grad_(False)
        for layer in learning:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(parameter.is_floating_point())
    return TrainableReward(CheckedReward(f"{reward.name} (value network)", function), networks)


def _networks(thing: Any, seen: set[int]) -> Iterator[nn.Module]:
    """The outermost modules with parameters among the attributes of `thing`, and theirs."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        if any(True for _ in thing.parameters()):
            yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from _networks(value, seen)
    elif isinstance(thing, Sequence) and not isinstance(thing, str | bytes):
        for value in thing:
            yield from _networks(value, seen)
    elif is_dataclass(thing) and not isinstance(thing, type):
        for field in fields(thing):
            yield from _networks(getattr(thing, field.name), seen)


def _unbounded(function: Any) -> Any:
    if isinstance(function, ClassifierAlignment):
        return replace(function, clip=None)
    if isinstance(function, WeightedReward):
        return replace(function, terms=tuple(_unbounded_term(term) for term in function.terms))
    return function


def _unbounded_term(term: Term) -> Term:
    inner = replace(term.reward, function=_unbounded(term.reward.function))
    return replace(term, reward=inner)
