"""Weighted sums of rewards, each on its own scale, some only watched."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ctcontrol import CtcontrolError, check_positive
from ctcontrol_diffusion.rewards._checked import CheckedReward
from ctcontrol_diffusion.rewards._contract import Images, Info, Metadata, Rewards

_PREFIX = "sum:"
_SIZE = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# Between two terms: + or a minus sign, which stays, before a weight; but not inside 1e-3.
_NEXT = re.compile(rf"(?<!\d[eE])\s*(?:\+\s*(?=-?{_SIZE}\s*\*)|(?=-{_SIZE}\s*\*))")
_TERM = re.compile(rf"([-+]?{_SIZE})\s*\*\s*(.+)")
_SCALE = re.compile(r",(mean|std)=([^,]*)(?=,|$)")


@dataclass(frozen=True, eq=False)
class Term:
    """weight · (reward − mean) / std.

    Attributes:
        weight: of any sign; at 0 the reward is watched and never trained on.
        reward: called once a batch.
        mean, std: of the reward on images of the model before training, in its own units.

    Raises:
        CtcontrolError: for numbers that are not finite, or std ≤ 0.
    """

    weight: float
    reward: CheckedReward
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        check_positive(f"std of the reward {self.reward.name!r}", self.std)
        for what, value in (("weight", self.weight), ("mean", self.mean)):
            if not abs(value) < float("inf"):
                raise CtcontrolError(f"{what} of {self.reward.name!r} must be finite, got {value}")


@dataclass(frozen=True, eq=False)
class WeightedReward:
    """Σᵢ wᵢ (rᵢ − mᵢ) / sᵢ over the terms i; itself a reward function.

    Means and standard deviations are fixed, given or measured once (:meth:`measured`): running
    ones would move the goal while it is followed, and a resumed run would not repeat.
    `info` holds every rᵢ in its own units under its name, also of weight 0, and the terms' own
    info as `name/entry`. Differentiable if every term of weight ≠ 0 is.

    Raises:
        CtcontrolError: without a term of weight ≠ 0, and for two terms of one name.
    """

    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        names = [term.reward.name for term in self.terms]
        for name in names:
            if names.count(name) > 1:
                raise CtcontrolError(f"the sum has {name!r} twice; add its weights")
        if not any(term.weight for term in self.terms):
            raise CtcontrolError("a sum of rewards needs a term of weight other than 0")

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from the sum to the images."""
        return all(term.reward.differentiable for term in self.terms if term.weight)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        total = torch.zeros(len(images), device=images.device)
        info: dict[str, Any] = {}
        for term in self.terms:
            with torch.set_grad_enabled(torch.is_grad_enabled() and term.weight != 0):
                rewards, more = term.reward(images, prompts, metadata)
            if term.weight:
                total = total + term.weight * (rewards - term.mean) / term.std
            info[term.reward.name] = rewards.detach()
            info |= {f"{term.reward.name}/{key}": value for key, value in more.items()}
        return total, info

    @torch.no_grad()
    def measured(self, images: Images, prompts: list[str], metadata: Metadata) -> "WeightedReward":
        """The same sum with each term's mean and standard deviation on these images.

        Raises:
            CtcontrolError: for fewer than two images, and for a reward that is the same on all.
        """
        if len(images) < 2:
            raise CtcontrolError(f"measuring rewards needs two images or more, got {len(images)}")
        return WeightedReward(
            tuple(_measured(term, term.reward(images, prompts, metadata)[0]) for term in self.terms)
        )


def _measured(term: Term, rewards: Tensor) -> Term:
    std = float(rewards.std())
    if not std > 1e-6 * float(rewards.abs().max()):
        raise CtcontrolError(
            f"the reward {term.reward.name!r} is {float(rewards[0]):g} on all {len(rewards)} "
            "images; give its std"
        )
    return replace(term, mean=float(rewards.mean()), std=std)


def is_sum(name: str) -> bool:
    """Whether the name asks for a sum."""
    return name.startswith(_PREFIX)


def parsed_sum(name: str, load: Callable[[str], CheckedReward]) -> WeightedReward:
    """`sum:0.5*aesthetic,mean=5.2,std=0.6+1*clip-score−…`; `load` makes the terms.

    Raises:
        CtcontrolError: for a term that is not weight*reward, and what `load` and the sum raise.
    """
    parts = [part for part in _NEXT.split(name.removeprefix(_PREFIX).strip()) if part]
    terms: list[Term] = []
    for part in parts:
        match = _TERM.fullmatch(part)
        if not match:
            raise CtcontrolError(
                f"{part!r} in {name!r} must be weight*reward, as in "
                "sum:0.5*aesthetic+1.0*clip-score"
            )
        scale = dict(_SCALE.findall(match[2]))
        reward = load(_SCALE.sub("", match[2]))
        terms.append(
            Term(float(match[1]), reward, **{k: _number(part, k, v) for k, v in scale.items()})
        )
    return WeightedReward(tuple(terms))


def _number(part: str, option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise CtcontrolError(f"{option} in {part!r} must be a number, got {text!r}") from None
