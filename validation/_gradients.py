"""Estimates of a policy gradient, one a path."""

import numpy as np
import torch
from torch import Tensor

from ctcontrol import EulerMaruyama, TimeGrid, simulate
from ctcontrol.advantages import AdvantageEstimator
from ctcontrol.exact.lq import FixedLinearGaussianPolicy
from validation._chains import nodes
from validation._problems import seeded, two_state_law, two_states


def samples(
    covariance: float, steps: int, batch: int, estimator: AdvantageEstimator, *, chain: bool
) -> Tensor:
    """∂J/∂offset by likelihood ratios, one a path: Σ e^{−ρt}(a − μ)/Σ · rate · Δ, (batch,)."""
    lq, law, grid = two_states(), two_state_law(covariance), TimeGrid.uniform(1.0, steps)
    run = simulate(
        lq.problem(), FixedLinearGaussianPolicy(law), grid, batch, generator=seeded(steps)
    )
    value = lq.chain(grid.times.numpy()).value(law) if chain else lq.value(law)
    rates = estimator(lq.problem(), EulerMaruyama(), value, run)
    discount = (-lq.discount * grid.times[:-1]).exp()[:, None]
    score = (run.actions - run.means)[..., 0] / covariance
    return (discount * score * rates * run.lengths).sum(0)


def directions(covariance: float, steps: int) -> list[tuple[np.ndarray, float]]:
    """(2E, 2e) of ∂q/∂a = 2(Ex + e) at the mean action, times e^{−ρt}Δ, at every node."""
    lq, law = two_states(), two_state_law(covariance)
    q, out = lq.advantage_rate(law), []
    for k in range(steps):
        E, e = q.direction(k / steps)
        weight = 2 * np.exp(-lq.discount * k / steps) / steps
        out.append((weight * E[0], weight * float(e[0])))
    return out


def expectation(covariance: float, steps: int) -> float:
    """The mean of `analytic`, and of `samples` with q in closed form, on this grid; exactly."""
    chain = nodes(two_states(), two_state_law(covariance), steps)
    rows = zip(directions(covariance, steps), chain.means[:-1], strict=True)
    return float(sum(E @ m + e for (E, e), m in rows))


def analytic(covariance: float, steps: int, batch: int) -> Tensor:
    """The same with the Gaussian integral over actions done: Σ e^{−ρt}·2(Ex + e)Δ."""
    lq, law, grid = two_states(), two_state_law(covariance), TimeGrid.uniform(1.0, steps)
    run = simulate(
        lq.problem(), FixedLinearGaussianPolicy(law), grid, batch, generator=seeded(steps)
    )
    total = torch.zeros(batch, dtype=torch.float64)
    for k, (E, e) in enumerate(directions(covariance, steps)):
        total += run.states[k] @ torch.tensor(E) + e
    return total
