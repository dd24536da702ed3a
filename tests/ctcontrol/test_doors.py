"""Bad input at the door, all of it in one table: what is given, and what the one sentence says.

Every sentence names what was wrong with its value, and where it is not plain from that what to do.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from ctcontrol.exact import cqsm, exploratory_lq, hopf_cole, lq, ou, portfolio, tilt
from tests.helpers import seeded

EYE, NOT_PSD = np.eye(2), [[1.0, 2.0], [2.0, 1.0]]
GRID = ct.TimeGrid.uniform(1.0, 4)
POLICY = lq.LinearGaussianPolicy([[0.1]], std=0.3)
PRETRAINED = lq.LinearGaussianPolicy([[0.0]])
VP = tilt.VariancePreserving(0.1, 8.0)
NAN, INF = float("nan"), float("inf")


def scalar(**changes: Any) -> lq.LQProblem:
    """dX = (0.1X + u)dt + ½dW with unit costs."""
    settings: dict[str, Any] = {
        "A": [[0.1]],
        "B": [[1.0]],
        "Q": [[1.0]],
        "R": [[1.0]],
        "G": [[1.0]],
        "volatility": 0.5,
        "horizon": 1.0,
        "initial_mean": [0.0],
    }
    return lq.LQProblem(**(settings | changes))


def plane(**changes: Any) -> lq.LQProblem:
    """The same in two dimensions."""
    settings: dict[str, Any] = {name: EYE for name in "ABQRG"}
    settings |= {"volatility": 0.5, "horizon": 1.0, "initial_mean": [0.0, 0.0]}
    return lq.LQProblem(**(settings | changes))


def simulated(policy: ct.Policy = POLICY, **changes: Any) -> ct.Trajectory:
    """A rollout of the scalar problem, with parts of it exchanged."""
    problem, batch = scalar().problem(changes.pop("dtype", torch.float64)), changes.pop("batch", 4)
    grid = changes.pop("grid", GRID)
    parts = {name: getattr(problem, name) for name in ("sde", "reward", "initial", "horizon")}
    return ct.simulate(
        ct.ControlProblem(**(parts | changes)), policy, grid, batch, generator=seeded()
    )


def still(**changes: Any) -> ct.ControlProblem:
    """Without noise, where Girsanov has nothing to invert."""
    problem = scalar(volatility=[[0.0]]).problem()
    parts = {name: getattr(problem, name) for name in ("sde", "reward", "initial", "horizon")}
    return ct.ControlProblem(**(parts | changes))


def rolled(problem: ct.ControlProblem) -> ct.Trajectory:
    return ct.simulate(problem, POLICY, GRID, 4, generator=seeded())


def gaussian(**changes: Any) -> tilt.GaussianTilt:
    settings: dict[str, Any] = {
        "mean": [0.7],
        "covariance": 0.5,
        "linear": [1.3],
        "kl_weight": 0.5,
    }
    return tilt.GaussianTilt(VP, **(settings | changes))


def mixture(**changes: Any) -> tilt.MixtureTilt:
    data = tilt.GaussianMixture.of([0.5, 0.5], [[0.0], [1.0]], [1.0, 1.0])
    settings: dict[str, Any] = {"linear": [1.0], "kl_weight": 0.5}
    return tilt.MixtureTilt(VP, data, **(settings | changes))


def exploratory(**changes: Any) -> exploratory_lq.ExploratoryLQ:
    settings = {"A": 0.1, "B": 1.0, "C": 0.2, "D": 0.3, "M": 1.0, "N": 1.0, "discount": 1.0}
    return exploratory_lq.ExploratoryLQ(**(settings | changes))


def diffusing(**changes: Any) -> cqsm.CQSM:
    settings: dict[str, Any] = {
        "A": [[0.1]],
        "B": [[1.0]],
        "Q": [[1.0]],
        "R": [[1.0]],
        "volatility": 0.5,
        "action_volatility": 0.3,
        "drift_cost": 0.5,
        "discount": 1.0,
        "initial_mean": [0.0, 0.0],
    }
    return cqsm.CQSM(**(settings | changes))


def integral(**changes: Any) -> hopf_cole.HopfCole:
    settings: dict[str, Any] = {
        "volatility": 0.5,
        "action_cost": 1.0,
        "horizon": 1.0,
        "initial_mean": [0.0],
    }
    return hopf_cole.HopfCole(hopf_cole.LogCosh([1.0]), **(settings | changes))


def law(gain: Any, **parts: Any) -> lq.LinearGaussianLaw:
    return lq.LinearGaussianLaw(gain, **parts)


def endless(growth: float, discount: float) -> lq.StationaryLQ:
    return lq.StationaryLQ(scalar(A=[[growth]], discount=discount))


Door = tuple[str, Callable[[], object], str]
COSTS: list[Door] = [
    ("R negative", lambda: scalar(R=[[-1.0]]), r"R must be positive definite.*-1; add"),
    ("R singular", lambda: scalar(R=[[0.0]]), r"R must be positive definite.*is 0; add"),
    ("R indefinite", lambda: plane(R=NOT_PSD), r"R must be positive definite.*eigenvalue is -1"),
    ("R not symmetric", lambda: plane(R=[[1, 0.2], [0, 1]]), r"R must be symm.*0.2; pass"),
    ("Q indefinite", lambda: plane(Q=NOT_PSD), r"Q must be positive semidefinite.*-1; costs"),
    ("G negative", lambda: scalar(G=[[-1.0]]), r"G must be positive semidefinite.*-1; costs"),
    ("S too large", lambda: scalar(S=[[2.0]]), r"cost matrix \[\[Q, S\].* eigenvalue is -1"),
    ("CQSM R", lambda: diffusing(R=[[-1.0]]), r"R must be positive semidefinite.*is -1"),
    ("reward of controlled volatility", lambda: exploratory(N=-1.0), r"concave.*N = -1.*raise"),
    ("tilt without density", lambda: gaussian(quadratic=-5.0), r"raise kl_weight"),
    ("mixture without density", lambda: mixture(quadratic=-5.0), r"raise kl_weight"),
    ("tilt covariance", lambda: gaussian(covariance=-1.0), r"covariance must be positive definite"),
    ("mixture covariance", lambda: tilt.GaussianMixture.of([1.0], [[0.0]], [-1.0]), r"is -1; add"),
    ("policy covariance", lambda: law([[1.0]], covariance=[[-1.0]]), r"covariance must be pos.*-1"),
    (
        "entropy of a point",
        lambda: scalar(temperature=1.0).expected_return(law([[1.0]])),
        r"must be positive definite.*raise it, or set temperature = 0",
    ),
]
ESCAPES: list[Door] = [
    (
        "finite escape time",
        lambda: lq.solve_riccati([[0.0]], [[1.0]], [[-1.0]], [[1.0]], [[-1.0]], 5.0),
        r"Riccati equation has no finite solution.*near t = 4.2146.*take a horizon shorter",
    ),
    (
        "R of a Riccati equation",
        lambda: lq.solve_riccati([[0.0]], [[1.0]], [[1.0]], [[-1.0]], [[1.0]], 5.0),
        r"R must be positive definite",
    ),
    (
        "no stabilizing gain",
        lambda: lq.StationaryLQ(scalar(A=[[1.0]], B=[[0.0]], discount=1.0)).optimal_policy(),
        r"no stabilizing solution.*raise the discount",
    ),
    (
        "discount below 2·growth",
        lambda: endless(1.0, 1.0).value(law([[0.0]])),
        r"grows like e\^\{1 t\}, not below half the discount, 0.5; use a stabilizing gain",
    ),
    ("discount = 2·growth", lambda: endless(0.5, 1.0).value(law([[0.0]])), r"not below half"),
    ("no discount", lambda: endless(0.1, 0.0), r"the discount must be > 0, got 0"),
    ("controlled volatility", lambda: exploratory(A=5.0, B=0.0, D=0.0), r"10.04.*raise the disc"),
    (
        "its policy",
        lambda: exploratory().expected_return(law([[-5.0]])),
        r"E\[X²\] grows like e\^\{13.09 t\}, not below the discount 1; use a gain",
    ),
    ("its discount", lambda: exploratory(discount=0.0), r"got 0.0; use ErgodicLQ"),
    ("CQSM discount", lambda: diffusing(discount=0.0), r"discount must be a finite number > 0"),
    ("OU without end", lambda: ou.OrnsteinUhlenbeck(rate=1.0, volatility=1.0), r"give a horizon"),
]
SHAPES: list[Door] = [
    ("A", lambda: scalar(A=[[1.0, 2.0]]), r"A must be a square matrix.*got \(1, 2\)"),
    ("B", lambda: scalar(B=[[1.0], [2.0]]), r"with 1 rows like A, got shape \(2, 1\)"),
    ("G", lambda: scalar(G=EYE), r"G must have shape \(1, 1\), got shape \(2, 2\)"),
    ("volatility", lambda: scalar(volatility=EYE), r"with 1 rows, got shape \(2, 2\)"),
    ("start", lambda: scalar(initial_mean=[0, 0]), r"initial_mean must have shape \(1,\)"),
    ("words", lambda: scalar(A="x"), r"A must be an array of real numbers, got str"),
    ("complex", lambda: scalar(A=[[1j]]), r"A must be an array of real numbers"),
    ("ragged", lambda: scalar(A=[[1, 2], [3]]), r"A must be an array of real numbers"),
    (
        "a tensor that learns",
        lambda: scalar(A=torch.ones(1, 1, requires_grad=True)),
        r"A is a tensor that requires gradients.*give its detach",
    ),
    ("NaN", lambda: scalar(A=[[NAN]]), r"A must be finite"),
    ("gain", lambda: scalar().expected_return(law(EYE)), r"gain has shape \(2, 2\), but"),
    ("a vector as gain", lambda: law([1.0, 2.0]), r"scalar problem has a gain of shape \(1, 1\)"),
    ("tilt reward", lambda: gaussian(linear=[1.0, 2.0]), r"linear must have shape \(1,\)"),
    ("mixture reward", lambda: mixture(linear=[1.0, 2.0]), r"linear must have shape \(1,\)"),
    ("mixture", lambda: tilt.GaussianMixture.of([1.0], [[0], [1]], [1.0]), r"\(1,\) and \(2, 1\)"),
    ("CQSM start", lambda: diffusing(initial_mean=[0.0]), r"initial_mean must have shape \(2,\)"),
    ("Hopf–Cole start", lambda: integral(initial_mean=[0, 0]), r"initial_mean must have shape"),
    (
        "states of a policy",
        lambda: simulated(lq.LinearGaussianPolicy(np.zeros((1, 2)))),
        r"state must have shape \(batch, 2\), got \(4, 1\); make policy and dynamics",
    ),
    (
        "actions of a policy",
        lambda: simulated(lq.LinearGaussianPolicy(np.zeros((2, 1)))),
        r"action must have shape \(batch, 1\), got \(4, 2\); make policy and dynamics",
    ),
    (
        "actions that broadcast",
        lambda: simulated(
            ct.GaussianPolicy(lambda t, x, c: x.expand(-1, 3)), reward=ct.TerminalReward(_first)
        ),
        r"the action must have shape \(batch, 1\), got \(4, 3\); make policy and dynamics",
    ),
    (
        "std of a policy",
        lambda: simulated(ct.GaussianPolicy(_same, lambda t: torch.ones(5))),
        r"a std \(4,\) or of the shape of the mean, got \(4, 1\) and \(5,\)",
    ),
    (
        "negative std",
        lambda: simulated(ct.GaussianPolicy(_same, lambda t: -torch.ones_like(t))),
        r"std must be >= 0, got -1 from the policy; learn its logarithm",
    ),
    (
        "terminal reward",
        lambda: simulated(reward=ct.TerminalReward(lambda x, c: x)),
        r"reward.terminal must return one number a row, shape \(4,\), got \(4, 1\)",
    ),
    (
        "rows of the start",
        lambda: simulated(initial=lambda n, g: (torch.zeros(n + 1, 1).double(), None)),
        r"floating-point states \(4, ...\), got torch.float64 of shape \(5, 1\)",
    ),
    ("paths", lambda: simulated(batch=0), r"batch must be a whole number >= 1, got 0"),
]
DTYPES: list[Door] = [
    (
        "whole numbers as states",
        lambda: simulated(initial=lambda n, g: (torch.zeros(n, 1).long(), None)),
        r"floating-point states \(4, ...\), got torch.int64",
    ),
    (
        "single policy, double problem",
        lambda: simulated(lq.LinearGaussianPolicy([[0.0]], dtype=torch.float32)),
        r"must be torch.float32 like the numbers it meets, got torch.float64; give",
    ),
    (
        "double policy, single problem",
        lambda: simulated(dtype=torch.float32),
        r"must be torch.float64 like the numbers it meets, got torch.float32; give",
    ),
    (
        "a mean that changes the dtype",
        lambda: simulated(ct.GaussianPolicy(lambda t, x, c: x.float())),
        r"must be torch.float64 like the numbers it meets, got torch.float32; give problem",
    ),
]
TIMES: list[Door] = [
    ("repeated", lambda: ct.TimeGrid.from_times([0, 0.5, 0.5]), r"strictly increase.*drop repeats"),
    ("decreasing", lambda: ct.TimeGrid.from_times([1, 0.5, 0]), r"strictly increase.*sort them"),
    ("negative", lambda: ct.TimeGrid.from_times([-1, 0.5]), r"got a first time of -1; shift them"),
    (
        "one",
        lambda: ct.TimeGrid.from_times([0]),
        r"at least two times in one row, got shape \(1,\)",
    ),
    ("NaN", lambda: ct.TimeGrid.from_times([0, NAN]), r"finite and strictly increase"),
    ("no steps", lambda: ct.TimeGrid.uniform(1.0, 0), r"steps must be a whole number >= 1, got 0"),
    ("half steps", lambda: ct.TimeGrid.uniform(1.0, 2.5), r"steps must be a whole number.*2.5"),  # type: ignore[arg-type]  # that is the mistake
    (
        "beyond the horizon",
        lambda: simulated(grid=ct.TimeGrid.uniform(2.0, 4)),
        r"runs over \[0, 2\] but the problem over \[0, 1\]; use TimeGrid.uniform",
    ),
    ("of a chain", lambda: scalar().chain([0, 0.5, 0.5, 1]), r"strictly increasing.*drop repeats"),
    ("end of a chain", lambda: scalar().chain([0, 0.5]), r"but the problem over \[0, 1\]; start"),
    (
        "of a policy",
        lambda: lq.LinearGaussianPolicy(np.zeros((2, 1, 1)), times=[0, 1, 0.5]),
        r"strictly increasing",
    ),
    ("horizon 0", lambda: scalar(horizon=0.0), r"horizon must be a finite number > 0, got 0.0"),
    ("no horizon", lambda: scalar(horizon=INF), r"horizon must be a finite number > 0, got inf"),
    ("a word", lambda: scalar(horizon="1"), r"horizon must be a finite number > 0, got '1'"),
    ("nothing", lambda: scalar(discount=None), r"discount must be a finite number >= 0, got None"),
    ("discount", lambda: scalar(discount=-1.0), r"discount must be a finite number >= 0, got -1"),
    ("flow matching", lambda: tilt.FlowMatching(1.0), r"horizon must lie in \(0, 1\).*got 1.0"),
]
NOISE: list[Door] = [
    (
        "path KL",
        lambda: ct.path_kl(still(), POLICY, PRETRAINED, rolled(still())),
        r"volatility is zero or singular.*use a positive volatility",
    ),
    (
        "ratio of paths",
        lambda: ct.path_log_ratio(still(), POLICY, PRETRAINED, rolled(still())),
        r"zero or singular.*use a positive volatility",
    ),
    (
        "regularizer",
        lambda: rolled(still(regularizer=ct.PathKL(PRETRAINED, 1.0))),
        r"volatility is zero or singular.*use a positive volatility",
    ),
    (
        "absorbed noise",
        lambda: ct.NoiseAbsorbingPolicy(_same, _elementwise(), ct.EulerMaruyama(), GRID),
        r"a step without noise on this grid.*use eta > 0",
    ),
    ("tilt without noise", lambda: gaussian(eta=0.0), r"eta must be > 0.*use DeterministicTilt"),
    (
        "a dense volatility",
        lambda: ct.DenseVolatility(torch.tensor(NOT_PSD) * 0).whiten(torch.ones(3, 2)),
        r"volatility is zero or singular",
    ),
]
NUMBERS: list[Door] = [
    ("kl_weight", lambda: gaussian(kl_weight=0.0), r"kl_weight must be a finite number > 0"),
    ("β", lambda: tilt.VariancePreserving(2.0, 1.0), r"at least beta_min = 2.0, got 1.0"),
    ("σ", lambda: tilt.VarianceExploding(2.0, 1.0), r"exceed sigma_min = 2.0, got 1.0"),
    ("OU rate", lambda: ou.OrnsteinUhlenbeck(rate=-1, volatility=1, horizon=1), r"rate must be"),
    ("Hopf–Cole cost", lambda: integral(action_cost=0.0), r"action_cost must be a finite number"),
    ("CQSM cost", lambda: diffusing(drift_cost=0.0), r"drift_cost must be a finite number > 0"),
    (
        "Merton's volatility",
        lambda: portfolio.MertonLog(drift=0.1, rate=0.1, volatility=0.0, horizon=1.0),
        r"volatility must be a finite number > 0, got 0.0",
    ),
    (
        "mean-variance without excess",
        lambda: portfolio.MeanVariance(
            sharpe=0.0, volatility=0.2, horizon=1.0, initial_wealth=1.0, target=1.2
        ),
        r"sharpe must be a finite number other than 0",
    ),
]


def _same(t: Tensor, x: Tensor, context: object) -> Tensor:
    return x


def _first(x: Tensor, context: object) -> Tensor:
    return x[:, 0]


def _elementwise() -> ct.ElementwiseActionSDE:
    sde = still().sde
    assert isinstance(sde, ct.ElementwiseActionSDE)
    return sde


TABLE = {
    f"{group}: {name}": (open_it, says)
    for group, doors in {
        "costs": COSTS,
        "escapes": ESCAPES,
        "shapes": SHAPES,
        "dtypes": DTYPES,
        "times": TIMES,
        "noise": NOISE,
        "numbers": NUMBERS,
    }.items()
    for name, open_it, says in doors
}


@pytest.mark.parametrize("name", TABLE)
def test_it_is_refused_in_one_sentence(name: str) -> None:
    open_it, says = TABLE[name]
    with pytest.raises(ct.CtcontrolError, match=says) as caught:
        open_it()
    assert "\n" not in str(caught.value)


def test_the_exact_kl_of_paths_is_infinite_where_drifts_differ_without_noise() -> None:
    """Not refused, and not the 0 of a pseudo-inverse: infinity is the answer."""
    sure = scalar(volatility=[[0.0]], initial_mean=[1.0])
    assert sure.path_kl(POLICY, PRETRAINED) == INF
    assert sure.chain([0, 0.5, 1]).path_kl(POLICY, lq.LinearGaussianPolicy([[0.0]], [0.1])) == INF
