"""The door between reward functions, which anyone may write, and training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ctcontrol import CtcontrolError, NumericalError, ShapeError
from ctcontrol_diffusion.rewards._contract import (
    Images,
    Info,
    Metadata,
    RewardFunction,
    Rewards,
    is_differentiable,
)


class RewardError(NumericalError):
    """A reward function raised, or returned what is no reward, in the middle of a run.

    `batch` holds the images, the tensors among the metadata and, if there are any, the rewards.
    """


@dataclass(frozen=True, eq=False)
class CheckedReward:
    """A reward function whose every answer is checked; itself a reward function.

    Gradients flow through it if the function declares them (:func:`is_differentiable`); else the
    function is called on a copy of the images without autograd history.

    Attributes:
        name: what messages call it.
        function: the reward function.
    """

    name: str
    function: RewardFunction

    @property
    def differentiable(self) -> bool:
        """Whether gradients flow from the rewards to the images."""
        return is_differentiable(self.function)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        """The function's rewards, (n,) on the images' device, float32 (float64 for such images).

        Raises:
            ShapeError: unless images are (n, 1 or 3, h, w) floats with n prompts.
            RewardError: when images are not finite; when the function raises (its exception is
                the `__cause__`); when it does not return n finite rewards and a dict.
        """
        _check_input(images, prompts)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.differentiable):
            own = (images if self.differentiable else images.detach()).clone()
            batch = {"images": images.detach()}
            batch |= {k: v.detach() for k, v in metadata.items() if isinstance(v, Tensor)}
            # The sum over an image is finite just if its pixels are: one pass, no temporaries.
            totals = own.detach().flatten(1).sum(1, dtype=_dtype(images))
            spoilt = (~torch.isfinite(totals)).nonzero()
            if len(spoilt):
                raise RewardError(
                    f"reward {self.name!r} was given {len(spoilt)} of {len(own)} images with NaN "
                    f"or infinite pixels, the first for the prompt {prompts[int(spoilt[0])]!r}; "
                    "lower the learning rate",
                    batch,
                )
            try:
                answer = self.function(own, prompts, metadata)
            except Exception as error:
                raise RewardError(f"reward {self.name!r} {_failure(error)}", batch) from error
            values, info = self._pair(answer, batch)
            rewards = self._tensor(values, images, batch)
        self._check_info(info, len(images), batch)
        self._check_finite(rewards, prompts, batch)
        return rewards, info

    def probe(self, images: Images, prompts: list[str], metadata: Metadata) -> Rewards:
        """Call once before a run starts, so that a bad function costs nothing; rewards, detached.

        A function that declares gradients must also have finite ones.

        Raises:
            CtcontrolError: for whatever `__call__` raises, and for declared gradients that are
                missing or not finite.
        """
        with torch.enable_grad():
            images = images.detach().clone().requires_grad_()
            try:
                rewards, _ = self(images, prompts, metadata)
            except RewardError as error:
                raise CtcontrolError(str(error)) from (error.__cause__ or error)
            if self.differentiable:
                self._check_gradient(rewards, images)
        return rewards.detach()

    def _pair(self, answer: Any, batch: dict[str, Tensor]) -> tuple[Any, Info]:
        if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Mapping):
            return answer
        got = type(answer).__name__
        if isinstance(answer, tuple):
            got = f"({', '.join(type(part).__name__ for part in answer)})"
        raise RewardError(
            f"reward {self.name!r} must return a pair (rewards, info) whose info is a dict, as in "
            f"`return rewards, {{}}`, got {got}",
            batch,
        )

    def _tensor(self, values: Any, images: Tensor, batch: dict[str, Tensor]) -> Tensor:
        try:
            # A copy: the function may keep and reuse what it returned.
            tensor = values.clone() if isinstance(values, Tensor) else torch.tensor(values)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RewardError(
                f"reward {self.name!r} must return rewards as a tensor, an array or a list of "
                f"numbers, got {type(values).__name__} ({_first_line(error)})",
                batch,
            ) from error
        if tensor.shape != (len(images),) or tensor.is_complex():
            kind = f"{tensor.dtype} of shape" if tensor.is_complex() else "shape"
            raise RewardError(
                f"reward {self.name!r} must return one real number an image, shape "
                f"({len(images)},), got {kind} {tuple(tensor.shape)}",
                batch,
            )
        return tensor.to(images.device, _dtype(images))

    def _check_info(self, info: Info, n: int, batch: dict[str, Tensor]) -> None:
        for key, value in info.items():
            try:
                length = len(value)
            except TypeError:
                length = None
            if length != n:
                raise RewardError(
                    f"reward {self.name!r} must return info with one entry an image, {n} of them, "
                    f"but info[{key!r}] has {'no length' if length is None else length}",
                    batch,
                )

    def _check_finite(self, rewards: Tensor, prompts: list[str], batch: dict[str, Tensor]) -> None:
        bad = (~torch.isfinite(rewards)).nonzero()
        if len(bad):
            row = int(bad[0])
            raise RewardError(
                f"reward {self.name!r} returned {float(rewards[row])} for the prompt "
                f"{prompts[row]!r} (image {row}; {len(bad)} of {len(rewards)} rewards are not "
                "finite); return a finite number for every image",
                {**batch, "rewards": rewards.detach()},
            )

    def _check_gradient(self, rewards: Tensor, images: Tensor) -> None:
        declared = f"reward {self.name!r} is declared differentiable but its"
        if not rewards.requires_grad:
            raise CtcontrolError(
                f"{declared} rewards carry no gradient; compute them by torch operations without "
                "detach() and numpy(), or drop the declaration"
            )
        (gradient,) = torch.autograd.grad(rewards.sum(), images, materialize_grads=True)
        if not torch.isfinite(gradient).all():
            raise CtcontrolError(
                f"{declared} gradient with respect to the images has NaN or infinite entries; make "
                "it finite, or drop the declaration"
            )


def _check_input(images: Tensor, prompts: list[str]) -> None:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
        raise ShapeError(
            "images must be a float tensor (n, 1 or 3, height, width), got "
            f"{images.dtype} of shape {tuple(images.shape)}"
        )
    if len(prompts) != len(images):
        raise ShapeError(f"{len(images)} images need as many prompts, got {len(prompts)}")


def _dtype(images: Tensor) -> torch.dtype:
    return torch.promote_types(images.dtype, torch.float32)


def _failure(error: Exception) -> str:
    text = _first_line(error)
    if isinstance(error, CtcontrolError | RewardError):  # already a sentence for people
        return f"cannot be computed: {text}"
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
