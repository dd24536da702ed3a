"""Linear dynamics under linear feedback: a step of a Gaussian scheme as one affine map."""

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._policy import Feedback, Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import QuadraticForm, Reward
from ctcontrol._sde import ConstantLinearSDE
from ctcontrol._tensor import varies
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import State
from ctcontrol.solvers import Scheme, Solver


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


class AffineSteps(NamedTuple):
    """Those of a grid.

    Attributes:
        steps: in order, the same object where they are the same.
        plain: whether X' = M X + s ΔW is all there is in any of them, and no derivative is taken.
    """

    steps: list[AffineStep]
    plain: bool

    def fit(self, x: State) -> bool:
        """Whether these are such states; if not, the general way says what is wrong."""
        matrix = self.steps[0].matrix
        return x.ndim == 2 and x.shape[1] == len(matrix) and x.dtype == matrix.dtype


class HeldStep(NamedTuple):
    """X' = F x + G a + c + s L ΔW, the action held.

    Attributes:
        decay: F.
        gain: G.
        shift: c.
        shifts: whether it is not zero.
        root: L, or None for the identity.
        scale: s.
    """

    decay: Float[Tensor, "d d"]
    gain: Float[Tensor, "d m"]
    shift: Float[Tensor, "d"]
    shifts: bool
    root: Float[Tensor, "d k"] | None
    scale: float


def affine_steps(
    problem: ControlProblem, policy: Policy, scheme: Scheme, grid: TimeGrid
) -> AffineSteps | None:
    """The steps of a grid where they are affine, else None."""
    sde = problem.sde
    if not (isinstance(sde, ConstantLinearSDE) and isinstance(scheme, Solver)):
        return None
    feedbacks = policy.feedback(grid.nodes[:-1])
    if feedbacks is None:
        return None
    of_length = _kept if _lasting(sde, scheme) else _read
    lengths, which = grid.distinct_lengths
    gain, first = feedbacks[0].gain, of_length(sde, scheme, lengths[0])
    if gain.dtype != first.gain.dtype or gain.shape != first.gain.mT.shape:
        return None  # the general way says what is wrong
    known: dict[tuple[int, int], AffineStep] = {}
    steps: list[AffineStep] = []
    for index, feedback in zip(which, feedbacks, strict=True):
        key = (index, id(feedback))
        if key not in known:
            held = of_length(sde, scheme, lengths[index])
            known[key] = _closed(held, feedback, problem.reward)
        steps.append(known[key])
    return AffineSteps(steps, not any(_more(step) for step in known.values()))


def _more(step: AffineStep) -> bool:
    return step.root is not None or step.shifts or varies(step.matrix)


def _lasting(sde: ConstantLinearSDE, scheme: Solver) -> bool:
    """Whether a step is the same for ever: frozen schemes, and coefficients without gradients."""
    settings = vars(type(scheme)).get("__dataclass_params__")  # its own: a subclass may add more
    if settings is None or not settings.frozen:
        return False
    coefficients = vars(sde.coefficients()).values() if torch.is_grad_enabled() else ()
    return not any(coefficient.requires_grad for coefficient in coefficients)


def _read(sde: ConstantLinearSDE, scheme: Solver, length: float) -> HeldStep:
    """Read off the scheme, by what it does with the unit vectors: no scheme knows of this."""
    coefficients = sde.coefficients()
    A, B = coefficients.A, coefficients.B
    (d, m), begin, end = B.shape, A.new_tensor(0.0), A.new_tensor(length)
    units = torch.cat([A.new_zeros(1, d + m), torch.eye(d + m).to(A)])
    x, a, rows = units[:, :d], units[:, d:], d + m + 1
    image = scheme.mean(sde, begin.expand(rows), end.expand(rows), x, a, None)
    map_ = (image[1:] - image[0]).mT
    k = scheme.noise_like(sde, begin[None], x[:1], a[:1]).shape[1]
    unit, still = torch.eye(k).to(A), A.new_zeros(k, d + m)
    times = begin.expand(k), end.expand(k)
    root = scheme.noise(sde, *times, still[:, :d], still[:, d:], unit).mT
    scale = float(root[0, 0])
    alike = root.shape == (d, d) and torch.equal(root, scale * unit)
    spread = (None, scale) if alike else (root, 1.0)
    shifts = varies(image) or bool(image[0].any())
    return HeldStep(map_[:, :d], map_[:, d:], image[0], shifts, *spread)


@lru_cache(maxsize=1024)
def _kept(sde: ConstantLinearSDE, scheme: Solver, length: float) -> HeldStep:
    """The same, once for every length: the coefficients of such an SDE never change."""
    with torch.inference_mode(False), torch.no_grad():  # ordinary tensors, whoever asks first
        return _read(sde, scheme, length)


def _closed(held: HeldStep, feedback: Feedback, reward: Reward) -> AffineStep:
    """The loop closed by a = k − K x."""
    gain, offset = feedback
    matrix = torch.addmm(held.decay, held.gain, gain, alpha=-1)
    shift, shifts = held.shift, held.shifts
    if shifts or varies(offset) or bool(offset.any()):
        shift, shifts = torch.addmv(shift, held.gain, offset), True
    factor = float(matrix) if len(matrix) == 1 and not varies(matrix) else None
    form = reward.under(feedback)
    return AffineStep(matrix, shift[:, None], held.root, held.scale, shifts, factor, feedback, form)
