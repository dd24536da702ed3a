"""Random linear-quadratic systems and policies, stable and unstable, with every term present."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from ctcontrol.exact.lq import LinearGaussianLaw, LQProblem, Piecewise


def random_system(seed: int, d: int, m: int, **changes: Any) -> LQProblem:
    """A problem with cross cost, discount, temperature and correlated noise; all of size one."""
    rng = np.random.default_rng([seed, d, m])
    root = rng.normal(size=(d + m, d + m)) / np.sqrt(d + m)
    cost = root @ root.T + 0.1 * np.eye(d + m)
    terminal = rng.normal(size=(d, d)) / np.sqrt(d)
    start = rng.normal(size=(d, d)) / np.sqrt(d)
    arguments: dict[str, Any] = {
        "A": rng.normal(size=(d, d)) / np.sqrt(d),
        "B": rng.normal(size=(d, m)),
        "Q": cost[:d, :d],
        "R": cost[d:, d:],
        "S": cost[:d, d:],
        "G": terminal @ terminal.T,
        "volatility": 0.5 * rng.normal(size=(d, d + 1)),
        "horizon": 1.0,
        "initial_mean": rng.normal(size=d),
        "initial_covariance": start @ start.T,
        "discount": 0.4,
        "temperature": 0.3,
    }
    return LQProblem(**(arguments | changes))


def random_law(seed: int, lq: LQProblem, *, piecewise: bool = False) -> LinearGaussianLaw:
    """A policy with an offset and a correlated covariance, with three pieces if wanted."""
    rng = np.random.default_rng([seed, 7])
    m, d = lq.actions, lq.states
    lead = (3,) if piecewise else ()
    gain, offset = 0.7 * rng.normal(size=(*lead, m, d)), 0.5 * rng.normal(size=(*lead, m))
    root = rng.normal(size=(*lead, m, m)) / np.sqrt(m)
    covariance = root @ np.swapaxes(root, -1, -2) + 0.1 * np.eye(m)
    if not piecewise:
        return LinearGaussianLaw(gain, offset, covariance)
    times = lq.horizon * np.array([0.0, 0.25, 0.75, 1.0])
    return LinearGaussianLaw(*(Piecewise(times, v) for v in (gain, offset, covariance)))


@st.composite
def systems(draw: st.DrawFn) -> LQProblem:
    """Systems of one to three states; the growth rate of the free system goes from −2 to 2."""
    d, m = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    lq = random_system(draw(st.integers(0, 10_000)), d, m)
    growth = draw(st.floats(-2, 2))
    A = lq.A + (growth - np.linalg.eigvals(lq.A).real.max()) * np.eye(d)
    return random_system(
        draw(st.integers(0, 10_000)),
        d,
        m,
        A=A,
        horizon=draw(st.floats(0.2, 2.0)),
        discount=draw(st.sampled_from([0.0, 0.5, 2.0])),
        temperature=draw(st.sampled_from([0.0, 0.4])),
    )


@st.composite
def systems_with_policies(
    draw: st.DrawFn,
) -> tuple[LQProblem, LinearGaussianLaw, LinearGaussianLaw]:
    """A system and two policies of it, each constant or piecewise constant."""
    lq = draw(systems())
    first, second = (
        random_law(draw(st.integers(0, 10_000)), lq, piecewise=draw(st.booleans()))
        for _ in range(2)
    )
    return lq, first, second


def standard_normal_nodes(dimension: int, points: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Hermite nodes (n, dimension) and weights (n,): exact for cubics in each coordinate."""
    x, w = np.polynomial.hermite_e.hermegauss(points)
    grid = np.stack(np.meshgrid(*[x] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    weights = np.stack(np.meshgrid(*[w] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    return grid, weights.prod(-1) / weights.prod(-1).sum()
