"""What a reward function is given and what it gives back."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from jaxtyping import Float
from torch import Tensor

Images: TypeAlias = Float[Tensor, "n c h w"]
"""n images of 1 (gray) or 3 (RGB) channels with values in [0, 1]."""
Rewards: TypeAlias = Float[Tensor, "n"]
"""One number an image; higher is better."""
Metadata: TypeAlias = Mapping[str, Any]
"""What else is known of each image, name -> n entries: `labels`, a long tensor, for digits."""
Info: TypeAlias = Mapping[str, Any]
"""Further measurements, name -> n entries; may be empty."""

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "differentiable"


class RewardFunction(Protocol):
    """`fn(images, prompts, metadata) -> (rewards, info)`, the contract of every reward.

    Given are `images`, a float tensor (n, c, h, w) in [0, 1] with c = 1 or 3; `prompts`, a list
    of n texts; and `metadata`, name -> n entries (the digits give `{"labels": (n,) tensor}`).
    Returned are `rewards`, n finite numbers as a tensor, an array or a list, in units of your
    choice, higher being better; and `info`, a dict name -> n entries, which may be empty.

    The reward of an image must not depend on the other images of the batch: batches are cut and
    shuffled at will. For a run to be repeatable the function must be deterministic.

    A function gets its images without autograd history, so it may call `.numpy()`. One made of
    torch operations whose gradient is wanted declares it with :func:`differentiable`.
    """

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata, /
    ) -> tuple[Any, Info]:
        """(rewards, info)."""
        ...


def differentiable(function: F) -> F:
    """Decorator: gradients with respect to the images flow through this reward function.

    The same as setting `function.differentiable = True`, or the class attribute of that name.
    """
    setattr(function, _MARK, True)
    return function


def is_differentiable(function: object) -> bool:
    """Whether the reward function declares that gradients flow through it."""
    return bool(getattr(function, _MARK, False))
