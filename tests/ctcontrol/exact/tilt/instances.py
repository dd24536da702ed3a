"""Forward processes, and random data and rewards under them."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ctcontrol.exact.lq import LinearGaussianLaw
from ctcontrol.exact.tilt import (
    FlowMatching,
    ForwardProcess,
    GaussianTilt,
    SubVariancePreserving,
    VarianceExploding,
    VariancePreserving,
)

SCHEDULES: list[ForwardProcess] = [
    VariancePreserving(0.1, 8.0),
    VariancePreserving(0.3, 4.0, horizon=1.5),
    SubVariancePreserving(0.1, 8.0),
    VarianceExploding(0.2, 1.5),
    FlowMatching(0.95),
]


def random_facts(seed: int, d: int) -> dict[str, Any]:
    """Data with a full covariance, and a reward of full rank, concave or a little convex."""
    rng = np.random.default_rng([seed, d])
    root = rng.normal(size=(d, d)) / np.sqrt(d)
    bend = rng.normal(size=(d, d)) / np.sqrt(d)
    return {
        "mean": rng.normal(size=d),
        "covariance": root @ root.T + 0.2 * np.eye(d),
        "linear": rng.normal(size=d),
        "quadratic": 0.3 * bend @ bend.T - 0.05 * np.eye(d),
    }


def random_tilt(schedule: ForwardProcess, seed: int, d: int, eta: float) -> GaussianTilt:
    """A problem with path KL."""
    facts = random_facts(seed, d)
    return GaussianTilt(schedule, **facts, kl_weight=0.8, eta=eta)


def random_correction(seed: int, d: int) -> LinearGaussianLaw:
    """A correction of the score that is affine in the state."""
    rng = np.random.default_rng([seed, d, 1])
    return LinearGaussianLaw(0.2 * rng.normal(size=(d, d)), 0.4 * rng.normal(size=d))


schedules = st.sampled_from(SCHEDULES)
seeds = st.integers(0, 10_000)
tilts = st.builds(
    random_tilt, schedules, seeds, st.integers(1, 3), st.sampled_from([0.3, 0.7, 1.0, 1.4])
)
