"""Policy-gradient estimators on one regulator with one gain, one estimate a path."""

from functools import cache

import torch
from torch import Tensor

from ctcontrol import (
    Estimate,
    EulerMaruyama,
    MonteCarloAdvantage,
    TemporalDifferenceAdvantage,
    TimeGrid,
    rollout_gradient,
    simulate,
)
from ctcontrol.advantages import ItoAdvantage
from ctcontrol.exact.lq import LinearGaussianPolicy, LQProblem
from validation._problems import seeded

GAIN, STD = 0.5, 0.3
ROWS = 256_000
"""Steps of paths that are looked at together."""


def regulator() -> LQProblem:
    """One state, one action, from a sure start."""
    return LQProblem(
        A=[[-0.6]],
        B=[[1.0]],
        Q=[[0.5]],
        R=[[1.0]],
        G=[[0.5]],
        volatility=0.5,
        horizon=1.0,
        initial_mean=[1.0],
    )


def exploring(steps: int, batch: int, seed: int) -> dict[str, Tensor]:
    """∂J/∂K by likelihood ratios of actions with std 0.3, one a path, (batch,)."""
    lq, policy = regulator(), LinearGaussianPolicy([[GAIN]], std=STD)
    problem, grid = lq.problem(), TimeGrid.uniform(1.0, steps)
    run = simulate(problem, policy, grid, batch, generator=seeded(seed))
    x = run.states[:-1, :, 0]
    score = -(run.actions - run.means)[..., 0] * x / STD**2
    value, scheme = lq.chain(grid.times.numpy()).value(policy), EulerMaruyama()
    weights = {
        "baseline": MonteCarloAdvantage()(problem, scheme, value, run),
        "differences": TemporalDifferenceAdvantage()(problem, scheme, value, run),
        "closed": ItoAdvantage()(problem, scheme, lq.value(policy), run),
    }
    out = {name: (score * w * run.lengths).sum(0) for name, w in weights.items()}
    out["reinforce"] = score.sum(0) * run.returns()
    out["integrated"] = _integrated(lq, policy, x, steps)
    return out


def sure(steps: int, batch: int, seed: int) -> dict[str, Tensor]:
    """∂J/∂K without exploration, by the likelihood ratio of paths (Girsanov), one a path.

    What the reward owes to the action directly is added: ∂r/∂K = −2RKx².
    """
    lq, policy = regulator(), LinearGaussianPolicy([[GAIN]])
    problem, grid = lq.problem(), TimeGrid.uniform(1.0, steps)
    run = simulate(problem, policy, grid, batch, generator=seeded(seed))
    x = run.states[:-1, :, 0]
    # (∂b/∂K)ΔW/σ = −Bx ΔW/σ, and the innovation is σΔW
    score = -x * run.innovations[..., 0] / float(lq.diffusion[0, 0])
    direct = (-2 * GAIN * x.square() * run.lengths).sum(0)
    value = lq.chain(grid.times.numpy()).value(policy)
    step = TemporalDifferenceAdvantage()(problem, EulerMaruyama(), value, run) * run.lengths
    return {
        "girsanov": score.sum(0) * run.returns() + direct,
        "weighted": (score * step).sum(0) + direct,
        "along": _integrated(lq, policy, x, steps),
    }


def _integrated(lq: LQProblem, policy: LinearGaussianPolicy, x: Tensor, steps: int) -> Tensor:
    """Σ ∂q/∂a · ∂μ/∂K Δ with ∂q/∂a = 2Ex at the mean action."""
    q = lq.advantage_rate(policy)
    slopes = [2 * float(q.direction(k / steps)[0][0, 0]) / steps for k in range(steps)]
    return -(torch.tensor(slopes, dtype=x.dtype)[:, None] * x.square()).sum(0)


@cache
def estimates(steps: int, batch: int) -> dict[str, Tensor]:
    """Everybody's, in parts that bound the memory."""
    parts = max(1, steps * batch // ROWS)
    runs = [
        {
            **exploring(steps, batch // parts, 2 * k),
            **sure(steps, batch // parts, 2 * k + 1),
        }
        for k in range(parts)
    ]
    return {name: torch.cat([run[name] for run in runs]) for name in runs[0]}


def pathwise(steps: int, batch: int) -> Estimate:
    """The gradient through the rollout."""
    found = rollout_gradient(
        regulator().problem(),
        LinearGaussianPolicy([[GAIN]]),
        TimeGrid.uniform(1.0, steps),
        batch,
        generator=seeded(steps),
        method="forward",
    )
    assert found.stderr is not None
    return Estimate(float(found.gradient["gain"]), float(found.stderr["gain"]), batch)
