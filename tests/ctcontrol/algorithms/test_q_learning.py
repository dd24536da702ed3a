"""q-learning: the truth is its fixed point whoever acts, and it is found from far away."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import (
    Context,
    ContinuousPPO,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    LearnedStd,
    QLearning,
    QLearningFit,
    Scalar,
    State,
    Time,
    TimeGrid,
    Updater,
    Value,
    improve,
    simulate,
)
from ctcontrol.exact import lq
from tests.helpers import assert_mean, seeded
from tests.problems import regulator

TEMPERATURE = 0.4
# The terminal cost solves the algebraic Riccati equation: the optimum is constant in time.
A, B, Q, R, RHO = 0.2, 1.0, 1.0, 0.5, 0.3
P = R * (A - RHO / 2 + math.sqrt((A - RHO / 2) ** 2 + Q / R))
BEST_GAIN, BEST_STD = P / R, math.sqrt(TEMPERATURE / (2 * R))
PROBLEM = lq.LQProblem(
    A=[[A]],
    B=[[B]],
    Q=[[Q]],
    R=[[R]],
    G=[[P]],
    volatility=0.5,
    horizon=1.0,
    initial_mean=[0.5],
    initial_covariance=0.5,
    discount=RHO,
    temperature=TEMPERATURE,
)
STRANGER = lq.LinearGaussianPolicy([[0.4]], [0.3], std=0.9)  # nowhere near the optimum


def _learner(gain: float, offset: float, std: float) -> lq.LinearGaussianPolicy:
    return lq.LinearGaussianPolicy([[gain]], [offset], std=std, learn_std=True)


class _QuadraticInSpace(Value):
    """−(P + a (T − t)) x² + b (T − t) x + c (T − t), pinned to the terminal cost."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def at(self, t: Time, x: State, context: Context, mean: Tensor | None = None) -> Scalar:
        left, z = 1 - t, x[:, 0]
        a, b, c = self.theta
        return -(P + a * left) * z**2 + b * left * z + c * left


def test_the_instance() -> None:
    """The constant policy is the optimum: its return is that of the Riccati equation."""
    assert PROBLEM.expected_return(_learner(BEST_GAIN, 0.0, BEST_STD)) == pytest.approx(
        PROBLEM.optimal_return(), rel=1e-8
    )


def _moments(policy: lq.LinearGaussianPolicy, steps: int, paths: int = 30_000) -> Tensor:
    """Per path, the steps of the gain, the offset and log std; actions by a stranger."""
    value = PROBLEM.value(_learner(BEST_GAIN, 0.0, BEST_STD))
    grid, solver, algorithm = TimeGrid.uniform(1.0, steps), EulerMaruyama(), QLearning()
    problem = PROBLEM.problem()
    path = simulate(problem, STRANGER, grid, paths, generator=seeded(steps))
    rows = path.transitions(signal=algorithm.signal(problem, solver, value, path))
    law = policy.dist(rows.t0, rows.x, None)
    with torch.no_grad():
        z = (rows.action - law.mean) / law.std
        score = torch.cat([-z / law.std * rows.x, z / law.std, z**2 - 1], 1)
        assert rows.signal is not None
        rate = TEMPERATURE * law.log_prob(rows.action)
        surprise = rows.weight * (rows.signal - rate * (rows.t1 - rows.t0))
        out = (surprise[:, None] * score).reshape(steps, paths, 3).sum(0)
    loss = algorithm.loss(problem, solver, policy, rows).loss
    slopes = torch.autograd.grad(-loss, [policy.gain, policy.offset, policy.log_std])
    torch.testing.assert_close(torch.cat([s.flatten() for s in slopes]), out.mean(0))
    return out


def test_the_truth_is_a_fixed_point_of_any_behavior() -> None:
    """E Σ δ ∂log π = O(Δ) at (V*, q*): it halves with the step, and is large elsewhere."""
    truth = _learner(BEST_GAIN, 0.0, BEST_STD)
    coarse, fine = _moments(truth, 10), _moments(truth, 40)
    assert_mean(fine, 0.0, bias=4.0 / 40)
    assert float(fine.mean(0).abs().max()) < 0.4 * float(coarse.mean(0).abs().max())
    for wrong in (
        _learner(BEST_GAIN + 0.4, 0.0, BEST_STD),
        _learner(BEST_GAIN, 0.4, BEST_STD),
        _learner(BEST_GAIN, 0.0, 1.4 * BEST_STD),
    ):
        away = _moments(wrong, 40)
        assert float(away.mean(0).abs().max()) > 5 * float(fine.mean(0).abs().max())


@pytest.mark.parametrize("behavior", [None, STRANGER], ids=["on policy", "off policy"])
def test_it_learns_gain_and_exploration(behavior: lq.LinearGaussianPolicy | None) -> None:
    policy, value = _learner(0.0, 0.5, 1.2), _QuadraticInSpace()
    before = PROBLEM.expected_return(policy)
    run = improve(
        PROBLEM.problem(),
        policy,
        QLearning(),
        TimeGrid.uniform(1.0, 20),
        batch=256,
        minibatch=256 * 20,
        updater=Updater.adam(policy, 0.03, clip_norm=100.0),
        generator=seeded(1),
        behavior=behavior,
        value=value,
        critic=QLearningFit(policy=policy, temperature=TEMPERATURE, epochs=2, minibatch=2560),
        critic_updater=Updater.adam(value, 0.03, clip_norm=100.0),
    )
    for _ in itertools.islice(run, 150):
        pass
    best = PROBLEM.optimal_return()
    regret, start = best - PROBLEM.expected_return(policy), best - before
    assert regret < 0.04 * start
    assert float(policy.std.detach()) == pytest.approx(BEST_STD, rel=0.15)


class TestDoors:
    def _improve(self, **changes: Any) -> object:
        policy = _learner(0.0, 0.0, 1.0)
        settings: dict[str, Any] = {
            "batch": 8,
            "minibatch": 8,
            "updater": Updater.adam(policy, 0.1),
            "generator": seeded(),
            "problem": PROBLEM.problem(),
            "algorithm": QLearning(),
            **changes,
        }
        problem, algorithm = settings.pop("problem"), settings.pop("algorithm")
        run = improve(problem, policy, algorithm, TimeGrid.uniform(1.0, 4), **settings)
        return next(run)

    def test_algorithms_that_learn_on_policy_refuse_a_behavior(self) -> None:
        says = "ContinuousPPO learns from rollouts of the policy itself; leave `behavior` out"
        with pytest.raises(CtcontrolError, match=says):
            self._improve(algorithm=ContinuousPPO(), behavior=STRANGER)

    def test_a_value_and_a_temperature_are_needed(self) -> None:
        with pytest.raises(CtcontrolError, match="QLearning needs a value function; give one"):
            self._improve()
        linear = regulator(kl_weight=0.3)
        policy = GaussianPolicy(linear.mean(linear.zero, linear.k0), LearnedStd(0.5))
        path = simulate(linear.problem, policy, TimeGrid.uniform(1.2, 3), 4, generator=seeded())
        with pytest.raises(CtcontrolError, match=r"needs a problem with entropy, got PathKL"):
            QLearning().signal(linear.problem, EulerMaruyama(), _QuadraticInSpace(), path)
        with pytest.raises(CtcontrolError, match="temperature must be a finite number > 0"):
            QLearningFit(policy=policy, temperature=0.0)

    def test_the_behavior_acts(self) -> None:
        turn: Any = self._improve(behavior=STRANGER, value=_QuadraticInSpace())
        assert bool((turn.trajectory.stds == 0.9).all())
        assert turn.log_ratio > 0.1
