"""How a step is made: the general way, by a scheme whose law is unknown, or as one affine map."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError, ShapeError
from ctcontrol._gaussian import Gaussian
from ctcontrol._policy import Feedback, Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import QuadraticForm, Reward
from ctcontrol._sde import ActionAffineSDE, ConstantLinearSDE, ControlledSDE
from ctcontrol._tensor import linear, varies
from ctcontrol._time_grid import TimeGrid
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


class AffineStep(NamedTuple):
    """X' = M X + c + s L ΔW: linear dynamics under linear feedback, one step of a Gaussian scheme.

    Attributes:
        matrix: M.
        offset: c, as a column.
        root: L, or None for the identity.
        scale: s.
        shifts: whether c is not zero.
        factor: M as a number, for one state; None for several, and where M is differentiated.
        feedback: what the policy does.
        reward: r under it, where that is a quadratic form.
    """

    matrix: Float[Tensor, "d d"]
    offset: Float[Tensor, "d 1"]
    root: Float[Tensor, "d k"] | None
    scale: float
    shifts: bool
    factor: float | None
    feedback: Feedback
    reward: QuadraticForm | None

    def center(self, x: State) -> State:
        """M x + c."""
        if self.factor is not None:
            return torch.add(self.offset[0, 0], x, alpha=self.factor)
        return torch.addmm(self.offset, self.matrix, x.mT).mT

    def fits(self, x: State) -> bool:
        """Whether these are such states; if not, the general way says what is wrong."""
        return x.ndim == 2 and x.shape[1] == len(self.matrix) and x.dtype == self.matrix.dtype


class LinearFeedback(Motion):
    """Dynamics and policy made one affine map before any path moves.

    Args:
        steps: of the grid.
        pays: whether there is a running reward.
        tells: whether actions and centers are asked for.
        alone: whether nobody else ever sees a state but the last, so that the noise of the step
            after next may be drawn where it was.
    """

    def __init__(self, steps: list[AffineStep], *, pays: bool, tells: bool, alone: bool) -> None:
        self.steps, self.pays, self.tells = steps, pays, tells
        known = not pays or all(step.reward is not None for step in steps)
        self.alone = alone and known and not tells
        self.needs_times = not self.alone
        self.direct = not (tells or torch.is_grad_enabled() or varies(steps[0].matrix))
        self.mine = False
        self.buffer: Noise | None = None

    def decide(self, k: int, t0: Time, t1: Time, x: State) -> Decision:
        step = self.steps[k]
        if not (self.pays or self.tells):
            return NOTHING
        paid = step.reward(x) if self.pays and step.reward is not None else None
        action = center = None
        if self.tells or (self.pays and paid is None):
            action = step.feedback.offset - linear(step.feedback.gain, x)
        if self.tells:
            center = step.center(x)
        return Decision(None, action, center, center, paid)

    def move(
        self, k: int, span: Span, t0: Time, t1: Time, x: State, known: Decision, noise: NoiseStream
    ) -> State:
        step, out = self.steps[k], self.buffer
        if out is None:
            out = self._empty(x)
        if self.direct and step.root is None and not step.shifts:
            return self._in_place(step, span, x, out, noise)
        self.buffer = out
        dw = noise.increment(*span, out)
        if step.root is not None:
            dw = linear(step.root, dw)
        center = step.center(x) if known.center is None else known.center
        return center.add(dw, alpha=step.scale)

    def _in_place(
        self, step: AffineStep, span: Span, x: State, out: Tensor, noise: NoiseStream
    ) -> State:
        """M x + s ΔW where the noise is, which then is the state."""
        rest = noise.scaled(*span, step.scale, out)
        if step.factor is None:
            out.mT.addmm_(step.matrix, x.mT, beta=rest)
        elif rest == 1:
            out.add_(x, alpha=step.factor)
        else:
            out.mul_(rest).add_(x, alpha=step.factor)
        self.buffer = x if self.alone and self.mine else None
        self.mine = True
        return out

    def _empty(self, x: State) -> Noise:
        root = self.steps[0].root
        return torch.empty_like(x) if root is None else x.new_empty(root.shape[1], len(x)).mT


NOTHING = Decision(None, None, None, None)
"""Decided where nobody asks."""


def affine_steps(
    problem: ControlProblem, policy: Policy, scheme: Scheme, grid: TimeGrid
) -> list[AffineStep] | None:
    """The steps of a grid where they are affine, else None.

    They are read off the scheme itself, by what it does with the unit vectors, so that no scheme
    needs to know of this.
    """
    sde = problem.sde
    if not (isinstance(sde, ConstantLinearSDE) and isinstance(scheme, Solver)):
        return None
    nodes, dtype = grid.times.tolist(), sde.coefficients().A.dtype
    feedbacks = policy.feedback(nodes[:-1])
    if feedbacks is None:
        return None
    gain = feedbacks[0].gain
    if gain.dtype != dtype or gain.shape != sde.coefficients().B.mT.shape:
        return None  # the general way says what is wrong
    steps: list[AffineStep] = []
    known: dict[tuple[int, int], AffineStep] = {}
    unit = 1e-12 * grid.horizon  # the lengths of a uniform grid are one, up to rounding
    for (begin, end), feedback in zip(pairwise(nodes), feedbacks, strict=True):
        key = (round((end - begin) / unit), id(feedback))
        if key not in known:
            known[key] = _read(sde, scheme, begin, end, feedback, problem.reward)
        steps.append(known[key])
    return steps


def _read(
    sde: ConstantLinearSDE,
    scheme: Solver,
    begin: float,
    end: float,
    feedback: Feedback,
    reward: Reward,
) -> AffineStep:
    gain, offset = feedback

    def times(rows: int) -> tuple[Tensor, Tensor]:
        return gain.new_tensor(begin).expand(rows), gain.new_tensor(end).expand(rows)

    d = gain.shape[1]
    x = torch.cat([gain.new_zeros(1, d), torch.eye(d).to(gain)])
    image = scheme.mean(sde, *times(d + 1), x, offset - x @ gain.mT, None)
    k = scheme.noise_like(sde, times(1)[0], x[:1], offset[None]).shape[1]
    unit = torch.eye(k).to(gain)
    still = gain.new_zeros(k, d)
    root = scheme.noise(sde, *times(k), still, offset.expand(k, -1), unit).mT
    matrix, shift, scale = (image[1:] - image[0]).mT, image[0][:, None], float(root[0, 0])
    factor = float(matrix) if d == 1 and not varies(matrix) else None
    form, shifts = reward.under(feedback), varies(shift) or bool(shift.any())
    if root.shape == (d, d) and torch.equal(root, scale * unit):
        return AffineStep(matrix, shift, None, scale, shifts, factor, feedback, form)
    return AffineStep(matrix, shift, root, 1.0, shifts, factor, feedback, form)


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
