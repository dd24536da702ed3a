"""Steps of linear dynamics under linear feedback, with no more work than somebody looks at."""

import torch
from torch import Tensor

from ctcontrol._affine_step import AffineStep
from ctcontrol._motion import NOTHING, Decision, Motion, Span
from ctcontrol._tensor import linear, varies
from ctcontrol._typing import Noise, State, Time
from ctcontrol.noise import NoiseStream, Scaler

SANE = 1e-9
"""Units of noise that are smaller, or larger than its inverse, are not taken."""


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


class UnseenFeedback(Motion):
    """The same where nobody looks before the end: M x + s ΔW in one pass, in units of the noise.

    What moves is X/u, u being that by which a stream leaves its noise to be multiplied (1, or s√Δ);
    all of it is multiplied in the end. So a step costs little more than its random numbers.

    Args:
        steps: of the grid, M X + s ΔW (`AffineSteps.plain`).
    """

    needs_times = False

    def __init__(self, steps: list[AffineStep]) -> None:
        self.steps = steps
        self.unit = 1.0
        self.spare: Tensor | None = None
        self.scaled: Scaler | None = None

    def decide(self, k: int, t0: Time, t1: Time, x: State) -> Decision:
        return NOTHING

    def move(
        self, k: int, span: Span, t0: Time, t1: Time, x: State, known: Decision, noise: NoiseStream
    ) -> State:
        step, out = self.steps[k], self.spare
        if out is None:
            out = torch.empty_like(x)
        if self.scaled is None:
            self.scaled = noise.scaler(out)
        rest = self.scaled(*span, step.scale, out)
        if k > 0:
            self.spare = x
        elif SANE < abs(rest) < 1 / SANE:
            self.unit = rest
            x = x if rest == 1 else x / rest
        if rest != self.unit and abs(rest - self.unit) > 1e-12 * abs(self.unit):
            out.mul_(rest / self.unit)
        if step.factor is not None:
            return out.add_(x, alpha=step.factor)
        out.mT.addmm_(step.matrix, x.mT)
        return out

    def landed(self, x: State) -> State:
        return x if self.unit == 1 else x.mul_(self.unit)
