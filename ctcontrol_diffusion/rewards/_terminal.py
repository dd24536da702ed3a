"""Reward functions of images as terminal rewards h(x, context) of a control problem."""

from collections.abc import Callable
from dataclasses import dataclass

from ctcontrol import Context, Scalar, State
from ctcontrol_diffusion.rewards._checked import CheckedReward
from ctcontrol_diffusion.rewards._contract import Images, Metadata


@dataclass(frozen=True, eq=False)
class TerminalImageReward:
    """h(x, c) = reward(decode(x, c), prompts(c), metadata(c)) in context c, shape (batch,).

    The function of a `ctcontrol.TerminalReward`. Gradients with respect to x are kept if the
    reward is differentiable.

    Attributes:
        reward: of images.
        decode: (states, context) -> images (batch, c, h, w) in [0, 1].
        prompts: context -> one text a row.
        metadata: context -> name -> one entry a row; what the reward needs besides the prompts.
    """

    reward: CheckedReward
    decode: Callable[[State, Context], Images]
    prompts: Callable[[Context], list[str]]
    metadata: Callable[[Context], Metadata]

    def __call__(self, x: State, context: Context) -> Scalar:
        """h(x, context); raises `RewardError` as :class:`CheckedReward` does."""
        rewards, _ = self.reward(
            self.decode(x, context), self.prompts(context), self.metadata(context)
        )
        return rewards

    def probe(self, x: State, context: Context) -> Scalar:
        """h(x, context) before a run starts; raises `CtcontrolError` instead of `RewardError`."""
        return self.reward.probe(
            self.decode(x, context), self.prompts(context), self.metadata(context)
        )
