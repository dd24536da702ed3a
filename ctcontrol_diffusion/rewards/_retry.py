"""Rewards that may fail for a while, a server's for example: asked again, then given up aloud."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ctcontrol import CtcontrolError, check_count, check_nonnegative
from ctcontrol_diffusion.rewards._contract import (
    Images,
    Info,
    Metadata,
    RewardFunction,
    Rewards,
    is_differentiable,
)


@dataclass(frozen=True, eq=False)
class Retried:
    """A reward function that is called again when it raises; itself a reward function.

    A failure never becomes a reward: after the last attempt the images are tried one by one, and
    the first that fails by itself is named. A `CtcontrolError` is raised at once, since wrong input
    does not mend.

    Attributes:
        function: the reward function; what it raises may be of any kind.
        attempts: calls in all, ≥ 1.
        wait: seconds before the second call, doubled before each further one.

    Raises:
        CtcontrolError: for a bad number; when called, after the last attempt, with the prompt and
            the last exception, which is its `__cause__`.
    """

    function: RewardFunction
    attempts: int = 4
    wait: float = 1.0

    def __post_init__(self) -> None:
        check_count("attempts of a retried reward", self.attempts)
        check_nonnegative("wait of a retried reward", self.wait)

    @property
    def differentiable(self) -> bool:
        """As the function declares."""
        return is_differentiable(self.function)

    def __call__(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[Rewards, Info]:
        last: Exception | None = None
        for attempt in range(self.attempts):
            if attempt:
                time.sleep(self.wait * 2 ** (attempt - 1))
            try:
                return self.function(images, prompts, metadata)
            except CtcontrolError:
                raise
            except Exception as error:
                last = error
        if last is None:
            raise AssertionError("a retried reward makes at least one attempt")
        prompt, error = self._culprit(images, prompts, metadata) or (prompts[0], last)
        text = next(iter(str(error).strip().splitlines()), "")
        raise CtcontrolError(
            f"no reward for the prompt {prompt!r} ({len(prompts)} images) after {self.attempts} "
            f"attempts, the last of which raised {type(error).__name__}: {text}"
        ) from error

    def _culprit(
        self, images: Images, prompts: list[str], metadata: Metadata
    ) -> tuple[str, Exception] | None:
        if len(prompts) == 1:
            return None
        for i, prompt in enumerate(prompts):
            row = {key: _row(value, i) for key, value in metadata.items()}
            try:
                self.function(images[i : i + 1], [prompt], row)
            except Exception as error:
                return prompt, error
        return None


def _row(entries: Tensor | Sequence[object], i: int) -> Tensor | Sequence[object]:
    return entries[i : i + 1]
