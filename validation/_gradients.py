"""Estimates of a policy gradient, one a path."""

import numpy as np
import torch
from torch import Tensor

from ctcontrol import EulerMaruyama, TimeGrid, simulate
from ctcontrol.advantages import AdvantageEstimator
from ctcontrol.exact.lq import FixedLinearGaussianPolicy
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


def analytic(steps: int, batch: int) -> Tensor:
    """The same with the Gaussian integral over actions done: Σ e^{−ρt}·2(Ex + e)Δ."""
    lq, law, grid = two_states(), two_state_law(0.1), TimeGrid.uniform(1.0, steps)
    run = simulate(
        lq.problem(), FixedLinearGaussianPolicy(law), grid, batch, generator=seeded(steps)
    )
    q = lq.advantage_rate(law)
    total = torch.zeros(batch, dtype=torch.float64)
    for k, t in enumerate(grid.times[:-1].tolist()):
        E, e = q.direction(t)
        slope = 2 * (run.states[k] @ torch.tensor(E[0]) + float(e[0]))
        total += np.exp(-lq.discount * t) * slope / steps
    return total
