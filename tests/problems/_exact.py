"""What makes an estimator exact on a chain: its value, the next gradient, or its rates."""

import numpy as np
import torch
from torch import Tensor

from ctcontrol import (
    Action,
    Context,
    Gaussian,
    Policy,
    RatedValue,
    Scalar,
    State,
    Time,
    TimeGrid,
    Value,
    inner,
    like,
)
from ctcontrol.exact import lq
from tests.problems._linear import LinearProblem, Quadratic


class ChainValue(Value):
    """The exact value of a chain, at its nodes only."""

    def __init__(self, grid: TimeGrid, values: list[Quadratic]) -> None:
        super().__init__()
        self.nodes = grid.times
        self.P = torch.stack([v.P for v in values]).detach()
        self.p = torch.stack([v.p for v in values]).detach()
        self.c = torch.stack([v.c for v in values]).detach()

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        i = (t.detach()[:, None] - self.nodes).abs().argmin(1)
        return torch.einsum("bi,bij,bj->b", x, self.P[i], x) + inner(x, self.p[i]) + self.c[i]


class NextGradient(Value):
    """Not a value, but a function whose gradient at x is e^{−ρΔ}∇V(next node, mean of the step).

    For quadratic values that is the expected gradient after the step, and with it the
    closed-form advantages of the *chain* are exact at any step size.
    """

    def __init__(self, problem: LinearProblem, value: ChainValue, policy: Policy) -> None:
        super().__init__()
        self.linear, self.value, self.policy = problem, value, policy

    def at(self, t: Time, x: State, context: Context, mean: Action | None = None) -> Scalar:
        nodes = self.value.nodes
        i = (t.detach()[:, None] - nodes).abs().argmin(1)
        now = x.detach()
        with torch.no_grad():
            action = self.policy.dist(t, now, context).mean
            decay, gain, _ = self.linear.step(nodes[i], nodes[i + 1])
            step = like(decay, x) * now + like(gain, x) * action
        slope = self.value.gradient(nodes[i + 1], step, context)
        shrink = torch.exp(-self.linear.discount * (nodes[i + 1] - nodes[i]))
        return inner(x, like(shrink, x) * slope)


class ChainRate(RatedValue):
    """The exact value of a chain, with the exact advantage of its steps, per unit of time.

    At x the return of an action that is held for the step is quadratic in the action a: its value
    less the average over the policy's law, with coordinates of one std.
    """

    def __init__(self, problem: LinearProblem, value: ChainValue) -> None:
        super().__init__(value, lambda t, x, c: x)
        self.linear, self.chain = problem, value

    def rate(self, t: Time, x: State, a: Action, context: Context, law: Gaussian) -> Scalar:
        nodes, linear = self.chain.nodes, self.linear
        i = (t[:, None] - nodes).abs().argmin(1)
        decay, gain, _ = linear.step(nodes[i], nodes[i + 1])
        dt, P = nodes[i + 1] - nodes[i], self.chain.P[i + 1]
        shrink = torch.exp(-linear.discount * dt)

        def gained(action: Tensor) -> Tensor:
            after = like(decay, x) * x + like(gain, x) * action
            later = self.chain.at(nodes[i + 1], after, context)
            return shrink * later / dt + linear.reward.running(t, x, action, context)

        trace = shrink * gain**2 / dt * P.diagonal(dim1=1, dim2=2).sum(1)
        bend = trace - linear.reward.R * x.shape[1]
        return gained(a) - gained(law.mean) - law.std**2 * bend


def exact_rates(problem: lq.LQProblem, policy: lq.LinearGaussianPolicy) -> RatedValue:
    """V and q of a linear-Gaussian policy in closed form, q by its coefficients in (a − μ)/ς."""
    q, m = problem.advantage_rate(policy), problem.actions
    std = policy.std.detach()
    i, j = torch.triu_indices(m, m)
    bend = -torch.outer(std, std) * torch.tensor(problem.R)
    quadratic = torch.where(i == j, 1, 2) * bend[i, j]

    def coefficients(t: Tensor, x: Tensor, context: Context) -> Tensor:
        times, row = torch.unique(t, return_inverse=True)
        parts = [q.direction(s) for s in times.tolist()]
        E, e = (torch.tensor(np.array(part))[row] for part in zip(*parts, strict=True))
        linear = 2 * std * (torch.einsum("bmd,bd->bm", E, x) + e)
        return torch.cat([linear, quadratic.expand(len(x), len(quadratic))], 1)

    return RatedValue(problem.value(policy), coefficients)


def exact_for(
    kind: str, linear: LinearProblem, grid: TimeGrid, policy: Policy, values: list[Quadratic]
) -> Value:
    """What makes an estimator of this kind exact on the chain: value, next gradient or rates."""
    chain = ChainValue(grid, values)
    if kind == "rate":
        return ChainRate(linear, chain)
    return chain if kind == "value" else NextGradient(linear, chain, policy)
