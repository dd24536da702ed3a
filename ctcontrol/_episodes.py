"""A batch of paths in which somebody else chooses the actions, one interval of a grid at a time."""

import math

import torch
from torch import Tensor

from ctcontrol._checks import (
    CtcontrolError,
    NumericalError,
    ShapeError,
    check_count,
    check_kind,
    check_rows,
)
from ctcontrol._gaussian import Gaussian
from ctcontrol._loop import draw_seed
from ctcontrol._problem import ControlProblem
from ctcontrol._regularizer import Entropy
from ctcontrol._simulate import check_run
from ctcontrol._tensor import fill
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Action, Scalar, State
from ctcontrol.noise import Tile, WhiteNoise
from ctcontrol.solvers import EulerMaruyama, Scheme
from ctcontrol.solvers._euler import gaussian


class Episodes:
    """What `simulate` runs, turned inside out: the state waits for an action.

    A step is one interval [t_k, t_{k+1}] of the grid under the same solver, and is worth

        R_k = r(t_k, X_k, a_k)Δ_k − w · amount_k   [+ e^{−ρΔ_k} h(X_T) in the last],

    so that Σ_k e^{−ρt_k} R_k is the return of the path. All paths begin and end together.

    Args:
        problem: dynamics, reward and initial law. A `PathKL` counts the drawn action as if it
            were the mean.
        grid: decision times, spanning the problem's horizon.
        batch: number of paths.
        generator: source of the initial states and the noise.
        solver: the scheme; Euler–Maruyama by default.

    Raises:
        CtcontrolError: a grid that does not span the horizon, or a problem with `Entropy`, which
            is a property of a policy and not of the actions it drew.
    """

    def __init__(
        self,
        problem: ControlProblem,
        grid: TimeGrid,
        batch: int,
        *,
        generator: torch.Generator,
        solver: Scheme | None = None,
    ) -> None:
        check_run(problem, grid, generator)
        if isinstance(problem.regularizer, Entropy) and problem.regularizer.weight:
            raise CtcontrolError(
                "an environment sees actions, not the entropy of the policy that drew them; drop "
                "the regularizer here and let the learning algorithm add its entropy bonus"
            )
        self.problem, self.grid = problem, grid
        self.batch = check_count("batch", batch)
        self.generator = generator
        self.solver = EulerMaruyama() if solver is None else solver
        check_kind("solver", self.solver, Scheme, "take EulerMaruyama()")
        self._law = gaussian(self.solver) if problem.regularizer is not None else None
        self.reset()

    def reset(self) -> State:
        """Draw new initial states and return them, (batch, *state)."""
        self.index = 0
        self.state, self.context = self.problem.initial(self.batch, self.generator)
        whole = Tile(self.grid, 0, 0, self.batch, self.batch)
        self._noise = WhiteNoise(draw_seed(self.generator)).stream(whole)
        return self.state

    @property
    def time(self) -> float:
        """t_k, at which the next action is due; the horizon once all is over."""
        return float(self.grid.times[self.index])

    @property
    def ended(self) -> bool:
        """Whether the horizon is reached and only `reset` is left."""
        return self.index == self.grid.steps

    @property
    def discount_factor(self) -> float:
        """e^{−ρΔ} of the next step, or of the last once all is over: a learner's gamma."""
        length = float(self.grid.lengths[min(self.index, self.grid.steps - 1)])
        return math.exp(-self.problem.discount * length)

    @torch.no_grad()
    def step(self, action: Action) -> Scalar:
        """Hold `action` (batch, *action) over the next interval; returns R_k, (batch,).

        Raises:
            CtcontrolError: the paths have ended, or the actions are not one a path.
            NumericalError: a state or reward is NaN or infinite.
        """
        if self.ended:
            raise CtcontrolError("the paths have reached the horizon; call reset() first")
        if len(action) != self.batch:
            raise ShapeError(
                f"one action a path is needed, shape ({self.batch}, ...), got {tuple(action.shape)}"
            )
        problem, solver, x, context = self.problem, self.solver, self.state, self.context
        begin, end = self.grid.times[self.index : self.index + 2].tolist()
        t0, t1 = fill(begin, x), fill(end, x)
        running = problem.reward.running(t0, x, action, context)
        gain = check_rows("reward.running", running, self.batch) * (t1 - t0)
        if problem.regularizer is not None and self._law is not None:
            law = Gaussian(action, torch.zeros_like(t0))
            anchor = problem.regularizer.anchor(t0, x, context)
            gain = gain - problem.penalty_weight * problem.regularizer.amount(
                self._law, problem.sde, t0, t1, x, law, anchor, context
            )
        buffer = solver.noise_like(problem.sde, t0, x, action)
        dw = self._noise.increment(begin, end, buffer)
        self.state = solver.step(problem.sde, t0, t1, x, action, dw, context)
        factor = self.discount_factor
        self.index += 1
        if self.ended:
            terminal = problem.reward.terminal(self.state, context)
            gain = gain + factor * check_rows("reward.terminal", terminal, self.batch)
        self._check(gain)
        return gain

    def _check(self, gain: Tensor) -> None:
        if not bool(torch.isfinite(gain).all() and torch.isfinite(self.state).all()):
            raise NumericalError(
                f"a state or a reward is NaN or infinite at t = {self.time:g}; take smaller steps "
                "or smaller actions",
                {"states": self.state, "rewards": gain},
            )
