"""Laws over actions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ctcontrol._checks import CtcontrolError, check_kind, check_nonnegative
from ctcontrol._gaussian import Gaussian
from ctcontrol._sde import ElementwiseActionSDE, of_kind
from ctcontrol._tensor import fill, like
from ctcontrol._time_grid import TimeGrid
from ctcontrol._typing import Action, Context, MeanFunction, State, Time
from ctcontrol.solvers import Scheme, Solver
from ctcontrol.solvers._base import GAUSSIAN


class Feedback(NamedTuple):
    """The action k − K x.

    Attributes:
        gain: K, (m, d).
        offset: k, (m,).
    """

    gain: Tensor
    offset: Tensor


class NotingMean(nn.Module, ABC):
    """A mean action whose network computes more than the action: notes that a critic may read.

    A rollout keeps them (`Trajectory.notes`), so that a value function that is a head on the
    policy's network (`InformedResidual`) costs no evaluation of it.
    """

    @abstractmethod
    def forward(self, t: Time, x: State, context: Context) -> Action:
        """The mean action, (batch, *action)."""

    @abstractmethod
    def noted(self, t: Time, x: State, context: Context) -> tuple[Action, Tensor | None]:
        """The same mean action and the notes, (batch, …); None for no notes."""


def _noted(mean: MeanFunction, t: Time, x: State, c: Context) -> tuple[Action, Tensor | None]:
    return mean.noted(t, x, c) if isinstance(mean, NotingMean) else (mean(t, x, c), None)


class Policy(nn.Module, ABC):
    """π(a | t, x, context), Gaussian.

    `absorbs_noise` is true where the action already carries the noise of the dynamics; the
    simulation then adds none of its own.
    """

    absorbs_noise: bool = False

    @abstractmethod
    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        """The law of the action at each row."""

    def noted(self, t: Time, x: State, context: Context) -> tuple[Gaussian, Tensor | None]:
        """`dist` and what the same evaluation found besides, (batch, …); None for nothing.

        Override only where the mean may be a `NotingMean`.
        """
        return self.dist(t, x, context), None

    def feedback(self, times: Sequence[float]) -> list[Feedback] | None:
        """One (K, k) a time if the action is k − K x for sure, else None.

        Override where it is: rollouts of linear dynamics are then faster.
        """
        return None

    def stacked(self, t: Time, x: State) -> Gaussian | None:
        """`dist` of M policies at once, for rows of times (M, n) and states (M, n, *state).

        All parameters and buffers of this one have a leading axis M then (`PolicyEnsemble`), and so
        has the law: mean (M, n, *action), std alike or (M, n). None: they are mapped over.
        Override where operations on stacks save time, and again wherever `dist` is changed.
        """
        return None

    def check_solver(self, solver: Scheme) -> None:
        """Raise `CtcontrolError` if rollouts of this policy need another solver; most need none.

        Override only where the law depends on the scheme.
        """


class LearnedStd(nn.Module):
    """A trainable standard deviation e^{log_std + log_rate · t} for `GaussianPolicy`.

    Args:
        std: at the start, > 0: a number for all coordinates, or one a coordinate (*action).
        of_time: learn the exponential rate too, 0 at first; else the std is constant in time.
        dtype, device: of the parameters.

    Raises:
        CtcontrolError: a std that is not positive.
    """

    def __init__(
        self,
        std: float | Sequence[float],
        *,
        of_time: bool = False,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        start = torch.tensor(std, dtype=dtype, device=device)
        if not bool((torch.isfinite(start) & (start > 0)).all()):
            raise CtcontrolError(
                f"a std that is to be learned must be finite and > 0, got {start.tolist()}"
            )
        self.log_std = nn.Parameter(start.log())
        self.log_rate: Tensor | None = nn.Parameter(torch.zeros_like(start)) if of_time else None

    def forward(self, t: Time) -> Tensor:
        """(batch,), or (batch, *action) with one number a coordinate."""
        log_std = self.log_std.expand(len(t), *self.log_std.shape)
        if self.log_rate is not None:
            log_std = log_std + self.log_rate * like(t, log_std)
        return log_std.exp().to(t.dtype)


class GaussianPolicy(Policy):
    """N(mean(t, x, context), std(t)² I): a gain, a network, a score.

    Args:
        mean: the mean action; a module's parameters become the policy's.
        std: exploration, a number ≥ 0, or a function of time (batch,) -> (batch,), or
            (batch, *action) for one std a coordinate; a module (`LearnedStd`) is trained with
            the mean. 0 is the deterministic policy.
    """

    def __init__(self, mean: MeanFunction, std: float | Callable[[Time], Tensor] = 0.0) -> None:
        super().__init__()
        self.mean = mean
        self.std = std if callable(std) else check_nonnegative("std", std)

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        return Gaussian(self.mean(t, x, context), self._spread(t))

    def noted(self, t: Time, x: State, context: Context) -> tuple[Gaussian, Tensor | None]:
        mean, notes = _noted(self.mean, t, x, context)
        return Gaussian(mean, self._spread(t)), notes

    def _spread(self, t: Time) -> Tensor:
        return self.std(t) if callable(self.std) else fill(self.std, t)


class NoiseAbsorbingPolicy(Policy):
    """N(mean, ς_k² I) with the std that turns the noise-free step into the noisy one.

    Its likelihood ratio *equals* the ratio of one-step transition densities, so policy gradient
    with it is DDPO (docs/theory, DDPO as a limit). Unlike `GaussianPolicy` it needs the grid
    and the solver: its law depends on the discretisation.

    Raises:
        CtcontrolError: a step of the grid has no noise, `t` is not a node of the grid, or the
            dynamics are not an `ElementwiseActionSDE`.
    """

    absorbs_noise = True

    def __init__(
        self, mean: MeanFunction, sde: ElementwiseActionSDE, solver: Solver, grid: TimeGrid
    ) -> None:
        super().__init__()
        self.mean = mean
        self.solver = solver
        check_kind("solver", solver, Solver, GAUSSIAN)
        remedy = "only actions shaped like the noise can absorb it; use GaussianPolicy"
        elementwise = of_kind(sde, ElementwiseActionSDE, type(self).__name__, remedy)
        std = solver.absorbing_std(elementwise, grid.times[:-1], grid.times[1:])
        if not bool((torch.isfinite(std) & (std > 0)).all()):
            raise CtcontrolError(
                f"{type(solver).__name__} has a step without noise on this grid (action std "
                f"{std.tolist()[-3:]} at the end), so its likelihood ratio is infinite; use "
                "eta > 0 and end the grid before the diffusion clock reaches 0"
            )
        self.register_buffer("nodes", grid.times[:-1], persistent=False)
        self.register_buffer("table", std, persistent=False)
        self.nodes: Tensor
        self.table: Tensor

    def check_solver(self, solver: Scheme) -> None:
        """Only the scheme whose noise it absorbs leaves the law of the rollout as it was."""
        if solver != self.solver:
            raise CtcontrolError(
                f"this policy absorbs the noise of {self.solver}, but the rollout uses {solver}; "
                "make the policy with the solver of the rollout"
            )

    def dist(self, t: Time, x: State, context: Context) -> Gaussian:
        return Gaussian(self.mean(t, x, context), self._spread(t, x))

    def noted(self, t: Time, x: State, context: Context) -> tuple[Gaussian, Tensor | None]:
        mean, notes = _noted(self.mean, t, x, context)
        return Gaussian(mean, self._spread(t, x)), notes

    def _spread(self, t: Time, x: State) -> Tensor:
        gap = (t.double()[:, None] - self.nodes).abs()
        distance, index = gap.min(1)
        if float(distance.max()) > 1e-5 * max(1.0, float(self.nodes[-1])):
            worst = float(t[int(distance.argmax())])
            raise CtcontrolError(
                f"t = {worst:.6g} is not a node of the grid of this noise-absorbing policy; "
                "evaluate it on its own grid, or use GaussianPolicy, which needs none"
            )
        return self.table[index].to(x.dtype)
