"""What is maximised: rates along the path and a reward at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ctcontrol._typing import Action, Context, Scalar, State, Time


class Reward(ABC):
    """r(t, x, a) per unit of time and h(x) at the horizon; maximised."""

    @abstractmethod
    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        """r(t, x, a), per unit of time."""

    @abstractmethod
    def terminal(self, x: State, context: Context) -> Scalar:
        """h(x)."""


@dataclass(frozen=True)
class TerminalReward(Reward):
    """Only the end counts: r = 0, h = `function(x, context)`."""

    function: Callable[[Tensor, Context], Tensor]

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return t.new_zeros(len(x)).to(x.dtype)

    def terminal(self, x: State, context: Context) -> Scalar:
        return self.function(x, context)
