"""What better noise and a control variate are worth: mean square error at equal time.

All estimators are unbiased for the mean return on
the grid, so their variance over seeds is their mean square error; where the truth is known, as for
linear-quadratic problems, the error against it is taken instead. Plain Monte Carlo and every rival
take turns, on one thread.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.cases import Case
from benchmarks.models import Linear
from benchmarks.rivals.ours import lq as regulator
from ctcontrol import (
    AdditiveNoiseSDE,
    Antithetic,
    ControlProblem,
    ElementwiseActionSDE,
    GaussianPolicy,
    MomentMatched,
    Policy,
    ScalarVolatility,
    Sobol,
    TerminalReward,
    TimeGrid,
    Value,
    Volatility,
    estimate,
)
from ctcontrol._typing import Action, Context, Scalar, State, Time
from ctcontrol.exact import lq
from ctcontrol.noise import NoiseSource

SEEDS, PATHS, STEPS = 24, 65_536, 64


@dataclass(frozen=True, eq=False)
class Task:
    """A number to estimate.

    Attributes:
        value: V of the control variate, of another policy or a neighbouring problem.
        truth: the number, if it is known.
    """

    problem: ControlProblem
    policy: Policy
    value: Value
    truth: float | None = None
    stop: Callable[[Time, State, Context], torch.Tensor] | None = None


def linear(name: str, steps: int = STEPS) -> Task:
    """The value of linear feedback; V is exact for a gain 40 % smaller."""
    case = Case(name, PATHS, steps, "float64", cost=True)
    model, exact = case.model, regulator(case)
    assert isinstance(model, Linear)
    policy = lq.LinearGaussianPolicy(model.K)
    chain = exact.chain(TimeGrid.uniform(model.horizon, steps).times.numpy())
    value = exact.value(lq.LinearGaussianPolicy(0.6 * model.K))
    return Task(exact.problem(), policy, value, chain.expected_return(policy))


def nonlinear() -> Task:
    """−Kx + 0.8 tanh(Wx) on the plant with eight states; V is that of −Kx."""
    exact = regulator(Case("LQ", PATHS, STEPS, "float64", cost=True))
    model = Case("LQ", 1, 1, "float64").model
    assert isinstance(model, Linear)
    gain = np.asarray(model.K)
    root = np.random.default_rng(5).standard_normal(gain.shape) / len(gain) ** 0.5
    K, W = torch.tensor(gain), torch.tensor(root)
    policy = GaussianPolicy(lambda t, x, context: -x @ K.mT + 0.8 * (x @ W.mT).tanh())
    return Task(exact.problem(), policy, exact.value(lq.LinearGaussianPolicy(gain)))


@dataclass(frozen=True)
class DoubleWell(AdditiveNoiseSDE, ElementwiseActionSDE):
    """dX = (X − X³ + a) dt + ½ dW in every coordinate."""

    def free_drift(self, t: Time, x: State, context: Context) -> State:
        return x - x**3

    def action_gain(self, t: Time) -> Scalar:
        return torch.ones_like(t)

    def volatility(self, t: Time, x: State, a: Action | None = None) -> Volatility:
        return ScalarVolatility(t.new_tensor(0.5).expand(len(t)))


def double_well(d: int) -> Task:
    """a = −½x from ½, near the barrier; V is that of the plant dX = (½X + a) dt + ½ dW."""
    eye = np.eye(d).tolist()
    plant = lq.LQProblem(
        A=(0.5 * np.eye(d)).tolist(),
        B=eye,
        Q=eye,
        R=eye,
        G=eye,
        volatility=0.5,
        horizon=1.0,
        initial_mean=[0.5] * d,
    )
    gain = 0.5 * np.eye(d)
    problem = replace(plant.problem(), sde=DoubleWell())
    policy = GaussianPolicy(lambda t, x, context: -0.5 * x)
    return Task(problem, policy, plant.value(lq.LinearGaussianPolicy(gain)))


def crossing() -> Task:
    """P(min X < 0) of the process with one state: nothing is smooth here."""
    task = linear("OU")
    problem = replace(task.problem, reward=TerminalReward(lambda x, c: (x[:, 0] < 0).double()))
    return Task(problem, task.policy, task.value, stop=lambda t, x, context: x[:, 0] < 0)


TASKS: dict[str, Callable[[], Task]] = {
    "LQ, d = 1": partial(linear, "OU"),
    "LQ, d = 8": partial(linear, "LQ"),
    "non-linear policy, d = 8": nonlinear,
    "double well, d = 1": partial(double_well, 1),
    "double well, d = 8": partial(double_well, 8),
    "min x < 0, d = 1": crossing,
}

Recipe = Callable[[int], NoiseSource | None]
RECIPES: dict[str, Recipe] = {
    "plain": lambda seed: None,
    "antithetic": Antithetic,
    "moment matched": MomentMatched,
    "Sobol, bridge": Sobol,
}


def run(
    task: Task, recipe: Recipe, value: Value | None, seed: int, paths: int, steps: int
) -> float:
    """One estimate."""
    return estimate(
        task.problem,
        task.policy,
        TimeGrid.uniform(task.problem.horizon, steps),
        budget=(2 if value else 1) * paths * steps,
        generator=torch.Generator().manual_seed(seed),
        noise=recipe(seed),
        control_variate=value,
        stop=task.stop,
        batch=paths,
    ).mean


def errors(task: Task, paths: int = PATHS, steps: int = STEPS) -> Iterator[dict[str, Any]]:
    """One record a method: mean square error, seconds, and both against plain Monte Carlo."""
    plain = RECIPES["plain"]
    baseline = mean_square(
        [run(task, plain, None, s, paths, steps) for s in range(4 * SEEDS)], task
    )
    for label, recipe in RECIPES.items():
        for value in (None, task.value):
            if value is None and label == "plain":
                continue
            found, ratios = list[float](), list[float]()
            for seed in range(SEEDS):
                clock = [time.process_time()]
                run(task, plain, None, seed, paths, steps)
                clock.append(time.process_time())
                found.append(run(task, recipe, value, seed + 1000, paths, steps))
                clock.append(time.process_time())
                ratios.append((clock[2] - clock[1]) / (clock[1] - clock[0]))
            mse, slower = mean_square(found, task), float(np.median(ratios))
            yield {
                "method": label if value is None else f"{label} + control variate",
                "mse": mse,
                "slower": slower,
                "gain": baseline / mse,
                "gain_at_equal_time": baseline / mse / slower,
            }


def mean_square(found: list[float], task: Task) -> float:
    """The error against the truth, or the variance."""
    values = np.array(found)
    if task.truth is None:
        return float(values.var(ddof=1))
    return float(np.mean((values - task.truth) ** 2))
