"""Simulation of linear-quadratic control without any error of the grid."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ctcontrol._checks import CtcontrolError
from ctcontrol._problem import ControlProblem
from ctcontrol._reward import Reward
from ctcontrol._sde import ConstantLinearSDE, LinearCoefficients
from ctcontrol._tensor import inner, shared
from ctcontrol._trajectory import Trajectory
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol._volatility import Volatility
from ctcontrol.exact.lq._arrays import Array
from ctcontrol.exact.lq._bridge import LinearCost
from ctcontrol.exact.lq._dynamics import ConstantVolatility, GaussianInitialLaw
from ctcontrol.exact.lq._law import LinearGaussianLaw
from ctcontrol.exact.lq._policy import FixedLinearGaussianPolicy
from ctcontrol.exact.lq._schedule import Constant

if TYPE_CHECKING:
    from ctcontrol.exact.lq._problem import LQProblem


@dataclass(frozen=True, eq=False)
class ClosedLinearSDE(ConstantLinearSDE):
    """dX = (AX + f)dt + σdW: the feedback is inside, and the action does not count.

    Attributes:
        A: (d, d), per unit of time.
        f: (d,), per unit of time.
        noise: σ, per square root of a unit of time.
        actions: m, the coordinates of the actions that do not count.
    """

    A: Float[Tensor, "d d"]
    f: Float[Tensor, "d"]
    noise: ConstantVolatility
    actions: int

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return torch.addmm(self.f, x, self.A.mT)

    def action_drift(self, t: Time, a: Action) -> State:
        return self.f.new_zeros(()).expand(len(a), len(self.f))

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return self.noise.at(t)

    def coefficients(self) -> LinearCoefficients:
        d = len(self.A)
        return LinearCoefficients(
            self.A, self.A.new_zeros(d, self.actions), self.f, self.noise.dense(d)
        )


@dataclass(frozen=True, eq=False)
class StepReward(Reward):
    """What a whole step is worth on average from where it begins, per unit of time of the step.

    r_k(x) = −(x, 1)ᵀP_k(x, 1)/Δ_k, where (x, 1)ᵀP_k(x, 1) = E[∫ e^{−ρ(s − t_k)} cost ds | X_{t_k} =
    x] over the step; h = −xᵀGx. Only at the nodes it was made for.

    Attributes:
        nodes: (steps,), where the steps begin.
        forms: P_k/Δ_k, (steps, d + 1, d + 1).
        G: (d, d).
    """

    nodes: Float[Tensor, "steps"]
    forms: Float[Tensor, "steps d+1 d+1"]
    G: Float[Tensor, "d d"]

    def running(self, t: Time, x: State, a: Action, context: Context) -> Scalar:
        now = t[:1] if shared(t) else t
        k = torch.searchsorted(0.5 * (self.nodes[1:] + self.nodes[:-1]), now.to(self.nodes))
        form, d = self.forms[k], x.shape[1]
        linear = x.unsqueeze(1) @ form[:, :d, :d] + 2 * form[:, None, d, :d]
        return -(inner(linear.squeeze(1), x) + form[:, d, d])

    def terminal(self, x: State, context: Context) -> Scalar:
        return -inner(x, x @ self.G)


@dataclass(frozen=True, eq=False)
class Skeleton:
    """A linear-Gaussian policy in continuous feedback, seen at the nodes of any grid.

        skeleton = lq.skeleton(policy, grid.times)
        simulate(skeleton.problem(), skeleton.policy, grid, batch, solver=ExactLinear(), …)

    The states have their exact law at the nodes, and the mean return is J without bias, at any
    length of steps: the reward of a step is its conditional mean, given X_{t_k}, over everything
    in between. `returns` conditions on both ends of every step instead, E[return | X_{t_0}, …,
    X_{t_N}]: what a path of a very fine grid through these nodes is worth on average. Exploration
    costs what it costs, but moves no state (docs/theory, relaxed dynamics).

    Attributes:
        lq: the problem.
        law: the policy, constant in time.
        times: (steps + 1,), strictly increasing from 0 to the horizon.

    Raises:
        CtcontrolError: a policy that varies in time, or times that do not run from 0 to the
            horizon.
    """

    lq: "LQProblem"
    law: LinearGaussianLaw
    times: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", self.lq.chain(self.times).times)  # the door check
        self.lq.check(self.law)
        if not all(isinstance(schedule, Constant) for schedule in self.law.schedules):
            raise CtcontrolError(
                "a skeleton has one closed loop for all steps, but this policy varies in time; "
                "take a policy with constant gain, or simulate on a fine grid"
            )

    @property
    def policy(self) -> FixedLinearGaussianPolicy:
        """The mean action, to be recorded; the feedback itself is in the dynamics."""
        return FixedLinearGaussianPolicy(LinearGaussianLaw(self.law.gain, self.law.offset))

    @cached_property
    def closed(self) -> LinearCost:
        """The closed loop A − BK and its cost rate."""
        lq, (K, k, spread) = self.lq, self.law.at(0.0)
        SK, Rk = lq.S @ K, lq.R @ k
        constant = k @ Rk + (lq.R * spread).sum() - lq.entropy_rate(spread)
        n = (lq.S @ k - K.T @ Rk)[:, None]
        cost = np.block([[lq.Q - SK - SK.T + K.T @ lq.R @ K, n], [n.T, np.full((1, 1), constant)]])
        return LinearCost(lq.A - lq.B @ K, lq.B @ k, lq.diffusion, cost, lq.discount)

    @cached_property
    def _forms(self) -> tuple[Array, Array]:
        """Of every step, given both ends and given the beginning."""
        lengths = [float(f"{h:.12g}") for h in np.diff(self.times)]
        known = {h: self.closed.step(h) for h in set(lengths)}
        bridges, starts = zip(*(known[h] for h in lengths), strict=True)
        return np.array(bridges), np.array(starts)

    def problem(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
    ) -> ControlProblem:
        """What `simulate` takes, with the solver `ExactLinear` and a grid of these times."""

        def tensor(array: Array) -> Tensor:
            return torch.tensor(array, dtype=dtype, device=device)

        lq, lengths = self.lq, np.diff(self.times)
        noise = ConstantVolatility.of(lq.volatility, dtype, device)
        nodes = torch.tensor(self.times[:-1], device=device)
        forms = tensor(self._forms[1] / lengths[:, None, None])
        return ControlProblem(
            sde=ClosedLinearSDE(tensor(self.closed.A), tensor(self.closed.f), noise, lq.actions),
            reward=StepReward(nodes, forms, tensor(lq.G)),
            initial=GaussianInitialLaw.of(lq.initial_mean, lq.initial_covariance, dtype, device),
            horizon=lq.horizon,
            discount=lq.discount,
        )

    def returns(self, trajectory: Trajectory) -> Scalar:
        """E[return | X_{t_0}, …, X_{t_N}] of each path, (batch,); the mean is J without bias.

        Raises:
            CtcontrolError: the trajectory is on other times.
        """
        times, states = trajectory.grid.times.numpy(), trajectory.states
        if times.shape != self.times.shape or not np.allclose(times, self.times, atol=1e-9):
            raise CtcontrolError(
                f"the trajectory has {len(times) - 1} steps and the skeleton "
                f"{len(self.times) - 1}, or other times; make it with lq.skeleton(policy, "
                "trajectory.grid.times)"
            )
        forms = torch.as_tensor(self._forms[0]).to(states)
        ends = torch.cat([states[:-1], states[1:], torch.ones_like(states[1:, :, :1])], -1)
        costs = torch.einsum("kbi,kij,kbj->kb", ends, forms, ends)
        weights = torch.exp(-self.lq.discount * trajectory.grid.times).to(states)
        rewards = weights[:-1] @ -costs
        return rewards + math.exp(-self.lq.discount * self.lq.horizon) * trajectory.terminal
