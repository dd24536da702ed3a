"""What is maximised: rates along the path and a reward at the end."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ctcontrol._policy import Feedback
from ctcontrol._tensor import inner, linear
from ctcontrol._typing import Action, Context, Scalar, State, Time


class QuadraticForm(NamedTuple):
    """xᵀPx + 2pᵀx + c.

    Attributes:
        matrix: P, (d, d).
        slope: p, (d,), or None for none.
        constant: c, ().
    """

    matrix: Tensor
    slope: Tensor | None
    constant: Tensor

    def __call__(self, x: State) -> Scalar:
        """One number a row, (batch,)."""
        image = linear(self.matrix, x)
        if self.slope is None:
            return inner(x, image)
        return inner(x, image + 2 * self.slope) + self.constant


class Reward(ABC):
    """r(t, x, a) per unit of time and h(x) at the horizon; maximised."""

    @property
    def concurrent(self) -> bool:
        """Whether h may be computed in one thread while another simulates further paths.

        So it may where it changes nothing that the dynamics, the policy or the regularizer look
        at. False; override where it pays: where h is dear and a rollout is made in parts.
        """
        return False

    @abstractmethod
    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        """r(t, x, a), per unit of time."""

    @abstractmethod
    def terminal(self, x: State, context: Context) -> Scalar:
        """h(x)."""

    def under(self, feedback: Feedback) -> QuadraticForm | None:
        """x ↦ r(t, x, k − K x) if that is a quadratic form that no time changes, else None.

        Override where it is: rollouts under linear feedback are then faster.
        """
        return None


@dataclass(frozen=True)
class TerminalReward(Reward):
    """Only the end counts: r = 0, h = `function(x, context)`.

    Attributes:
        function: h.
        beside: whether it may be computed beside the simulation of further paths (`concurrent`).
    """

    function: Callable[[Tensor, Context], Tensor]
    beside: bool = False

    @property
    def concurrent(self) -> bool:
        return self.beside

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        return t.new_zeros(len(x)).to(x.dtype)

    def terminal(self, x: State, context: Context) -> Scalar:
        return self.function(x, context)
