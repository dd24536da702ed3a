"""Things of the wrong kind at the door: what stands where something else belongs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import ctcontrol as ct
from ctcontrol.exact import exploratory_lq, hopf_cole, lq, ou, portfolio, tilt
from ctcontrol.gymnasium import ControlEnv
from tests.helpers import seeded

LQ = lq.LQProblem(
    A=[[0.1]],
    B=[[1.0]],
    Q=[[1.0]],
    R=[[1.0]],
    G=[[1.0]],
    volatility=0.5,
    horizon=1.0,
    initial_mean=[0.0],
)
GRID = ct.TimeGrid.uniform(1.0, 4)
POLICY = lq.LinearGaussianPolicy([[0.1]], std=0.3)
NAN = float("nan")


def simulated(**changes: Any) -> object:
    """A rollout with an argument exchanged."""
    parts: dict[str, Any] = {"problem": LQ.problem(), "policy": POLICY, "grid": GRID, "batch": 4}
    parts |= {"generator": seeded()} | changes
    return ct.simulate(**parts)


def improved(**changes: Any) -> object:
    """The same of learning."""
    parts: dict[str, Any] = {
        "problem": LQ.problem(),
        "policy": POLICY,
        "algorithm": ct.ContinuousPPO(advantage=ct.MonteCarloAdvantage()),
        "grid": GRID,
        "batch": 4,
        "minibatch": 16,
        "updater": ct.Updater.adam(POLICY, 0.1),
        "generator": seeded(),
    }
    return ct.improve(**(parts | changes))


def exploratory(**changes: Any) -> object:
    parts: dict[str, Any] = {name: 1.0 for name in "BCDMN"} | {"A": 0.0, "discount": 3.0}
    return exploratory_lq.ExploratoryLQ(**(parts | changes))


def variance(**changes: Any) -> object:
    parts: dict[str, Any] = {"sharpe": 0.5, "volatility": 0.2, "horizon": 1.0, "target": 1.2}
    parts |= {"initial_wealth": 1.0} | changes
    return portfolio.MeanVariance(**parts)


def integral(end: Any, **changes: Any) -> object:
    parts: dict[str, Any] = {"volatility": 0.5, "action_cost": 1.0, "horizon": 1.0}
    parts |= {"initial_mean": [0.0]} | changes
    return hopf_cole.HopfCole(end, **parts)


def ornstein_uhlenbeck() -> ou.OrnsteinUhlenbeck:
    return ou.OrnsteinUhlenbeck(rate=1.0, volatility=1.0, discount=1.0)


def directed(temperature: Any) -> object:
    parts: dict[str, Any] = {"mean": [0.0], "covariance": 1.0, "linear": [1.0]}
    schedule = tilt.VariancePreserving(0.1, 8.0)
    return tilt.RewardDirected(schedule, reward_weight=1.0, temperature=temperature, **parts)


TABLE: dict[str, tuple[Callable[[], object], str]] = {
    "an exact problem": (lambda: simulated(problem=LQ), r"ControlProblem, got LQProb.*problem\(\)"),
    "an exact law": (
        lambda: simulated(policy=LQ.optimal_policy()),
        r"kind Policy, got LinearGaussianLaw.*FixedLinearGaussianPolicy",
    ),
    "times": (
        lambda: simulated(grid=[0.0, 1.0]),
        r"kind TimeGrid, got list; take TimeGrid.uniform",
    ),
    "a seed": (lambda: simulated(generator=0), r"kind Generator, got int.*manual_seed"),
    "a seed of episodes": (
        lambda: ct.Episodes(LQ.problem(), GRID, 4, generator=0),  # type: ignore[arg-type]  # that is the mistake
        r"kind Generator, got int.*manual_seed",
    ),
    "a class": (lambda: improved(algorithm=ct.ContinuousPPO), r"got the class ContinuousPPO; call"),
    "no updater": (lambda: improved(updater=None), r"updater must be.*got NoneType; take Updater"),
    "LSTD as a critic": (
        lambda: improved(
            critic=ct.LeastSquaresTD(), value=LQ.value(POLICY), critic_updater=ct.Updater
        ),
        r"critic must be of the kind Critic, got LeastSquaresTD; .*solve\(value, trajectory\)",
    ),
    "a word in a problem": (lambda: exploratory(A="x"), r"A must be a finite number, got 'x'"),
    "a matrix": (lambda: exploratory(A=[[1.0]]), r"A must be a finite number, got \[\[1.0\]\]"),
    "no discount": (lambda: exploratory(discount=None), r"discount must be a finite number"),
    "no excess": (lambda: variance(sharpe="x"), r"sharpe must be a finite number, got 'x'"),
    "no multiplier": (lambda: variance(multiplier=NAN), r"multiplier must be a finite number"),
    "no target": (lambda: variance(target=None), r"target must be a finite number, got None"),
    "a fraction": (lambda: portfolio.Fraction("x"), r"mean must be a finite number, got 'x'"),  # type: ignore[arg-type]  # that is the mistake
    "no end": (lambda: integral("x"), r"end must be of the kind LogWeight, got str; take LogCosh"),
    "nowhere": (lambda: hopf_cole.LogCosh([]), r"slope must be a vector.*got shape \(0,\)"),
    "a negative covariance": (
        lambda: integral(hopf_cole.LogCosh([1.0]), initial_covariance=-1.0),
        r"initial_covariance must be positive semidefinite.*-1",
    ),
    "no moment": (lambda: ornstein_uhlenbeck().occupation_moment(-1), r"power must be.*got -1"),
    "no draws": (
        lambda: ornstein_uhlenbeck().sample_occupation(0, seeded()),
        r"batch must be a whole number >= 1, got 0",
    ),
    "the past": (lambda: ornstein_uhlenbeck().moments(-1.0), r"t must be.* >= 0, got -1"),
    "a temperature": (lambda: directed("x"), r"temperature must be a finite number >= 0, got 'x'"),
    "a horizon": (lambda: tilt.FlowMatching("x"), r"horizon must be a finite number > 0, got 'x'"),  # type: ignore[arg-type]  # that is the mistake
    "no schedule": (
        lambda: tilt.GaussianTilt("vp", mean=[0.0], covariance=1.0, linear=[1.0], kl_weight=1.0),  # type: ignore[arg-type]  # that is the mistake
        r"schedule must be of the kind ForwardProcess, got str; take VariancePreserving",
    ),
    "no data": (
        lambda: tilt.MixtureTilt(
            tilt.VariancePreserving(0.1, 8.0),
            "x",  # type: ignore[arg-type]  # that is the mistake
            linear=[1.0],
            kl_weight=1.0,
        ),
        r"data must be of the kind GaussianMixture, got str; take GaussianMixture.of",
    ),
    "a class of solvers": (
        lambda: simulated(solver=ct.EulerMaruyama),
        r"kind Scheme, got the class EulerMaruyama; take EulerMaruyama\(\)",
    ),
    "a network": (
        lambda: improved(value=torch.nn.Linear(1, 1)),
        r"value must be of the kind Value, got Linear; derive a network from Value",
    ),
    "a horizon of a bound": (
        lambda: ct.SurrogateBound.root(1.0, horizon="x"),  # type: ignore[arg-type]  # that is the mistake
        r"horizon must be a finite number > 0, got 'x'",
    ),
    "a number as a shape": (
        lambda: ControlEnv(LQ.problem(), GRID, 1),  # type: ignore[arg-type]  # that is the mistake
        r"action_shape must be of the kind tuple, got int; one action of m coordinates is \(m,\)",
    ),
    "a step before the first reset": (
        lambda: ControlEnv(LQ.problem(), GRID, (1,)).step(np.zeros(1, dtype=np.float32)),
        r"nothing has begun yet; call reset\(\) first",
    ),
    "a share": (lambda: ct.MonteCarloFit(share="x"), r"share must lie in \(0, 1\], got 'x'"),  # type: ignore[arg-type]  # that is the mistake
}


@pytest.mark.parametrize("name", TABLE)
def test_it_is_refused_in_one_sentence(name: str) -> None:
    open_it, says = TABLE[name]
    with pytest.raises(ct.CtcontrolError, match=says) as caught:
        open_it()
    assert "\n" not in str(caught.value)


def linear_value() -> ct.LinearValue:
    return ct.LinearValue(lambda t, x, c: (1 - t)[:, None] * torch.cat([x, x**2], 1), 2)


TWICE = (ct.ParameterGradient(), ct.ParameterGradient())
MOMENTS: dict[str, tuple[Any, int, Any, str]] = {
    "repeated tests, optimal": (TWICE, 50, "optimal", r"singular.*drop tests that repeat others"),
    "repeated tests, projected": (TWICE, 50, "projected", r"singular.*drop tests"),
    "two paths": (
        (ct.ParameterGradient(), ct.StateFunctions(lambda t, x, c: x**3)),
        2,
        "optimal",
        r"singular.*add paths",
    ),
    "one function": (
        (ct.ParameterGradient(), ct.StateFunctions(lambda t, x, c: x[:, 0])),
        50,
        "identity",
        r"have the shape \(4, 50\) and a last axis of functions, got \(4, 50\)",
    ),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_test_functions_that_do_not_do_are_refused(name: str) -> None:
    tests, batch, weighting, says = MOMENTS[name]
    run = ct.simulate(LQ.problem(), POLICY, GRID, batch, generator=seeded())
    with pytest.raises(ct.CtcontrolError, match=says):
        ct.GeneralizedMoments(tests, weighting).solve(linear_value(), run)


def test_test_functions_come_in_a_tuple() -> None:
    with pytest.raises(
        ct.CtcontrolError, match=r"tests must be of the kind tuple, got ParameterGradient"
    ):
        ct.GeneralizedMoments(ct.ParameterGradient())  # type: ignore[arg-type]  # that is the mistake
