"""How a step is made: what every way has in common, and the general one."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ctcontrol._checks import CtcontrolError, ShapeError
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Policy
from ctcontrol._sde import ActionAffineSDE, ControlledSDE
from ctcontrol._typing import Action, Context, Noise, Scalar, State, Time
from ctcontrol.noise import NoiseStream
from ctcontrol.solvers import Scheme, Solver

Normal = Callable[[int, Tensor], Tensor]
"""(k, like) -> standard normals for the actions of step k, shaped like a tensor."""
Span = tuple[float, float]
"""(begin, end) of an interval of the grid."""


class Decision(NamedTuple):
    """What is known of a step before its noise is drawn.

    Attributes:
        law: of the action; None where nobody asked.
        action: likewise.
        center: E[X'|x], or E[X'|x, a] where the step is not affine in the action; None if unknown.
        mean: E[X'|x, a]; likewise.
        paid: r per unit of time, if the motion knows it.
        notes: what the policy's network found besides the action, if it tells.
    """

    law: Gaussian | None
    action: Action | None
    center: State | None
    mean: State | None
    paid: Scalar | None = None
    notes: Tensor | None = None


NOTHING = Decision(None, None, None, None)
"""Decided where nobody asks."""


class Motion(ABC):
    """Makes the steps of one tile.

    Attributes:
        needs_times: whether t0 and t1 are looked at.
    """

    needs_times = True

    @abstractmethod
    def decide(self, k: int, t0: Time, t1: Time, x: State) -> Decision:
        """All but the noise."""

    @abstractmethod
    def move(
        self, k: int, span: Span, t0: Time, t1: Time, x: State, known: Decision, noise: NoiseStream
    ) -> State:
        """X', with the noise of the interval `span`."""

    def landed(self, x: State) -> State:
        """X_T, from what the last move gave."""
        return x


def _look(
    policy: Policy, sde: ControlledSDE, scheme: Scheme, t0: Time, t1: Time, x: State, c: Context
) -> tuple[Action, Tensor, State | None, Tensor | None]:
    """Mean and std of the action, E[X'|x, mean action] where the scheme knows it, and notes."""
    law, notes = policy.noted(t0, x, c)
    center = scheme.mean(sde, t0, t1, x, law.mean, c) if isinstance(scheme, Solver) else None
    return law.mean, law.std, center, notes


def _land(
    sde: ControlledSDE, solver: Solver, t0: Time, t1: Time, x: State, a: Action, c: Context
) -> State:
    """E[X'|x, a]."""
    return solver.mean(sde, t0, t1, x, a, c)


@cache
def _compiled(function: Callable[..., Any], backend: str) -> Callable[..., Any]:
    return torch.compile(function, backend=backend)


@dataclass(eq=False)
class HeldAction(Motion):
    """Draw an action, hold it, and take the step of the scheme.

    Attributes:
        normal: (k, tensor) -> standard normals for step k, shaped like the tensor.
        buffer: for the noise.
        backend: of `torch.compile`, for all but the random numbers; None leaves all as it is.
    """

    sde: ControlledSDE
    policy: Policy
    scheme: Scheme
    normal: Normal
    context: Context
    backend: str | None = None
    buffer: Noise | None = None

    def decide(self, k: int, t0: Time, t1: Time, x: State) -> Decision:
        sde, scheme, context = self.sde, self.scheme, self.context
        look, land = (_look, _land) if self.backend is None else self._functions(self.backend)
        mean, std, center, notes = look(self.policy, sde, scheme, t0, t1, x, context)
        law = Gaussian(mean, std)
        if k == 0:
            _check_law(law, x)
        if is_sure(std):
            return Decision(law, mean, center, center, notes=notes)
        a = law.at(self.normal(k, mean))
        if not isinstance(scheme, Solver):
            return Decision(law, a, None, None, notes=notes)
        moved = land(sde, scheme, t0, t1, x, a, context)
        # E[X'|x] averages over the action too where the step is affine in it; elsewhere
        # E[X'|x, a] is taken, and what remains is a martingale difference all the same.
        center = center if isinstance(sde, ActionAffineSDE) else moved
        return Decision(law, a, center, moved, notes=notes)

    @staticmethod
    def _functions(backend: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return _compiled(_look, backend), _compiled(_land, backend)

    def move(
        self, k: int, span: Span, t0: Time, t1: Time, x: State, known: Decision, noise: NoiseStream
    ) -> State:
        a = known.action
        assert a is not None
        if self.buffer is None:
            self.buffer = self.scheme.noise_like(self.sde, t0, x, a)
        sde, scheme, mean = self.sde, self.scheme, known.mean
        if mean is None or not isinstance(scheme, Solver):
            dw = noise.increment(*span, self.buffer)
            return scheme.step(sde, t0, t1, x, a, dw, self.context)
        scale = None if torch.is_grad_enabled() else scheme.noise_scale(sde, t0, t1, x, a)
        if scale is None:
            dw = noise.increment(*span, self.buffer)
            return mean + scheme.noise(sde, t0, t1, x, a, dw)
        return mean.add(self.buffer, alpha=noise.scaled(*span, scale, self.buffer))


def is_sure(std: Tensor) -> bool:
    """Whether no row has any exploration, so that drawing would only cost time."""
    distinct = std[tuple(slice(1) if step == 0 else slice(None) for step in std.stride())]
    return not bool((distinct != 0).any())


def _check_law(law: Gaussian, x: Tensor) -> None:
    """The law of the first actions: its rows, its dtype and its std."""
    mean, std = law.mean, law.std
    if len(mean) != len(x) or std.shape not in (x.shape[:1], mean.shape):
        raise ShapeError(
            f"a policy must return a mean ({len(x)}, ...) and a std ({len(x)},) or of the shape of "
            f"the mean, got {tuple(mean.shape)} and {tuple(std.shape)}"
        )
    if mean.dtype != x.dtype:
        raise CtcontrolError(
            f"the policy's mean action is {mean.dtype} but the states are {x.dtype}; give policy "
            "and problem the same dtype"
        )
    if not bool((std >= 0).all()):
        raise CtcontrolError(
            f"a std must be >= 0, got {float(std.min()):g} from the policy; learn its logarithm, "
            "as LearnedStd does"
        )
