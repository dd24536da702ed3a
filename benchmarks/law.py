"""The truth: mean and variance at the end, and the mean return, of the Euler–Maruyama chain."""

import math
from functools import cache

import numpy as np

from benchmarks.cases import Case, Numbers, Rollout
from benchmarks.models import Array, Linear, Mixture

ERRORS = 5.0
"""How many standard errors a contender may be off."""


def check(case: Case, rollout: Rollout) -> None:
    """Raise `AssertionError` unless a rollout has the law of the chain.

    For reversed diffusions the law of the data, up to the bias of the scheme.
    """
    x = rollout.final.astype(np.float64)
    n = len(x)
    mean, variance, slack = moments(case.name, case.steps)
    _within("mean", x.mean(0), mean, np.sqrt(variance / n), slack)
    kurtosis = ((x - x.mean(0)) ** 4).mean(0) / x.var(0) ** 2
    _within("variance", x.var(0), variance, variance * np.sqrt((kurtosis - 1) / n), slack)
    if rollout.returns is not None:
        returns = rollout.returns.astype(np.float64)
        error = returns.std() / math.sqrt(n)
        truth = expected_return(case.name, case.steps)
        _within("return", returns.mean(), truth, error, 1e-4 * abs(truth))


def _within(
    what: str, found: Numbers, truth: Numbers | float, error: Numbers, slack: float
) -> None:
    # Many coordinates at once: the bound grows as the largest of many normals does.
    bound = (ERRORS + math.sqrt(2 * math.log(np.size(found)))) * error + slack
    assert bool((np.abs(found - truth) <= bound).all()), (what, found, truth, bound)


@cache
def moments(name: str, steps: int) -> tuple[Array, Array, float]:
    """Mean and variance (d,) of X_T, and how far they may be off for other reasons than chance."""
    case = Case(name, 1, steps, "float64")
    model = case.model
    if isinstance(model, Mixture):
        mean = model.weights @ model.means
        spread = (model.weights * model.variances).sum()
        variance = spread + model.weights @ (model.means - mean) ** 2
        return mean, variance, 12 * case.step
    if model.layers:
        from benchmarks.rivals import numpy_loop

        run = numpy_loop.prepare(Case(name, 40_000, steps, "float64"))
        assert run is not None
        x = run(1).final
        return x.mean(0), x.var(0), 5 * float(x.std(0).max()) / math.sqrt(len(x))
    mean, covariance = model.start, np.zeros_like(model.A)
    for _ in range(steps):
        mean, covariance = _step(model, case.step, mean, covariance)
    return mean, covariance.diagonal().copy(), 1e-5


@cache
def expected_return(name: str, steps: int) -> float:
    """J of the chain with Q = R = G = I."""
    case = Case(name, 1, steps, "float64")
    model = case.model
    assert isinstance(model, Linear)
    assert not model.layers
    mean, covariance = model.start, np.zeros_like(model.A)
    cost = np.eye(model.dimension) + model.K.T @ model.K
    total = 0.0
    for _ in range(steps):
        total -= case.step * (mean @ cost @ mean + (cost * covariance).sum())
        mean, covariance = _step(model, case.step, mean, covariance)
    return float(total - mean @ mean - covariance.trace())


def _step(model: Linear, h: float, mean: Array, covariance: Array) -> tuple[Array, Array]:
    flow = np.eye(model.dimension) + h * (model.A - model.B @ model.K)
    noise = h * model.volatility**2 * np.eye(model.dimension)
    return flow @ mean, flow @ covariance @ flow.T + noise
