"""THE ONLY TRAINING LOOP."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ctcontrol._checks import (
    CtcontrolError,
    NumericalError,
    check_count,
    check_finite,
    check_kind,
)
from ctcontrol._estimate import Estimate
from ctcontrol._natural import NaturalUpdater
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._simulate import simulate
from ctcontrol._time_grid import TimeGrid
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._updater import Reevaluate, Updater
from ctcontrol._value import Value
from ctcontrol.algorithms._base import Algorithm, PolicyLoss
from ctcontrol.critics import Critic
from ctcontrol.solvers import Solver
from ctcontrol.solvers._euler import gaussian

AnyUpdater = Updater | NaturalUpdater
"""A step of an optimiser, or a natural gradient with a line search."""

RATIO_TOLERANCE = 1e-4
"""Largest |log ratio| allowed before the first update, where the ratio is 1 by definition."""


@dataclass(frozen=True, eq=False)
class Iteration:
    """What one iteration did; all numbers are of the rollout made *before* its update.

    Attributes:
        index: counts from 0.
        trajectory: the rollout.
        returns: return per path, penalties included.
        reward: terminal plus running reward per path, without penalties.
        divergence: Σ of the regularizer's amounts per path: path KL in nats for `PathKL`.
        policy_loss: mean over minibatches.
        clip_fraction: mean over minibatches.
        log_ratio: mean of |log ratio| over the last minibatch.
        value_loss: mean over the critic's minibatches, nan without one.
        explained_variance: 1 − E(target − V)²/Var(target) before the fit (its first minibatch),
            nan without one.
        gradient_norm: of the policy, mean over minibatches, before clipping.
        updates: optimiser steps of the policy.
        algorithm: the one to go on with, its coefficients adapted to these updates; a caller
            that saves it and gives it to `improve` again continues exactly.
    """

    index: int
    trajectory: Trajectory
    returns: Estimate
    reward: Estimate
    divergence: Estimate
    policy_loss: float
    clip_fraction: float
    log_ratio: float
    value_loss: float
    explained_variance: float
    gradient_norm: float
    updates: int
    algorithm: Algorithm


def improve(
    problem: ControlProblem,
    policy: Policy,
    algorithm: Algorithm,
    grid: TimeGrid,
    *,
    batch: int,
    minibatch: int,
    updater: AnyUpdater,
    generator: torch.Generator,
    solver: Solver | None = None,
    behavior: Policy | None = None,
    value: Value | None = None,
    critic: Critic | None = None,
    critic_updater: Updater | None = None,
    policy_waits: int = 0,
    start: int = 0,
) -> Iterator[Iteration]:
    """Improve `policy` in place, for ever: one rollout, one critic fit, some policy steps a turn.

    Everything that changes lives in the arguments (parameters, optimiser states, generator), so
    a caller that saves them between two iterations and restores them later continues exactly;
    `start` then gives the index of the next iteration.

    Args:
        problem: what is maximised.
        policy: trained in place.
        algorithm: signal and loss; adaptive coefficients are those of the first iteration.
        grid: decision times of the rollouts.
        batch: paths an iteration.
        minibatch: rows (steps of paths) an update of the policy.
        updater: steps the policy's parameters.
        generator: the only source of randomness.
        solver: scheme of the rollouts; Euler–Maruyama by default.
        behavior: draws the actions of the rollouts in place of `policy`, for algorithms that
            learn off policy; what an iteration reports is then of this policy.
        value: the critic's value function, if the algorithm wants one.
        critic: its targets; required with `critic_updater` exactly when `value` is to be trained.
        critic_updater: steps the value's parameters.
        policy_waits: leave the policy alone for this many iterations, to train the value first.
        start: index of the first iteration.

    Raises:
        CtcontrolError: inconsistent arguments.
        NumericalError: a NaN or infinity anywhere, or a likelihood ratio that is not 1 before
            the first update; carries the batch.
    """
    check_count("batch", batch)
    check_count("minibatch", minibatch)
    if (critic is None) != (critic_updater is None) or (critic is not None and value is None):
        raise CtcontrolError(
            "a critic, its updater and a value function belong together; give all three, or no "
            "critic"
        )
    check_kind("updater", updater, (Updater, NaturalUpdater), "take Updater.adam(policy, 1e-3)")
    if isinstance(algorithm, type):
        raise CtcontrolError(
            f"algorithm must be a value, got the class {algorithm.__name__}; call it"
        )
    if critic is not None:
        remedy = "LSTD and moments are solved, not descended: call their solve(value, trajectory)"
        check_kind("critic", critic, Critic, remedy)
    if value is not None:
        check_kind("value", value, Value, "derive a network from Value and give it `at`")
    if behavior is not None and not algorithm.off_policy:
        raise CtcontrolError(
            f"{type(algorithm).__name__} learns from rollouts of the policy itself; leave "
            "`behavior` out, or use QLearning, which learns from any"
        )
    scheme, actor = gaussian(solver), policy if behavior is None else behavior

    def turns() -> Iterator[Iteration]:
        now = algorithm
        for index in itertools.count(start):
            path = simulate(problem, actor, grid, batch, generator=generator, solver=scheme)
            value_loss = explained = float("nan")
            if critic is not None and critic_updater is not None and value is not None:
                value_loss, explained = _fit(value, critic, critic_updater, path, generator)
            losses: list[_Step] = []
            if index >= policy_waits and now.epochs > 0:
                signal = now.signal(problem, scheme, value, path)
                remedy = "the value function may have diverged"
                check_finite("the advantages", {"signal": signal}, remedy)
                rows = path.transitions(signal=signal)
                for part in now.minibatches(rows, minibatch, generator):
                    evaluate = _Evaluation(problem, scheme, policy, now, part)
                    first = not losses and behavior is None
                    losses.append(_descend(evaluate, updater, check_ratio=first))
                now = now.adapted(policy, rows)
            yield Iteration(
                index=index,
                trajectory=path,
                returns=Estimate.of(path.returns()),
                reward=Estimate.of(path.terminal + (path.rewards * path.lengths).sum(0)),
                divergence=Estimate.of(path.divergence()),
                policy_loss=_mean([step.loss for step in losses]),
                clip_fraction=_mean([step.clip_fraction for step in losses]) if losses else 0.0,
                log_ratio=losses[-1].log_ratio if losses else 0.0,
                value_loss=value_loss,
                explained_variance=explained,
                gradient_norm=_mean([step.gradient_norm for step in losses]),
                updates=len(losses),
                algorithm=now,
            )

    return turns()


@dataclass(frozen=True)
class _Step:
    loss: float
    clip_fraction: float
    log_ratio: float
    gradient_norm: float


@dataclass(frozen=True, eq=False)
class _Evaluation:
    """The loss on a minibatch as a function of the policy's parameters."""

    problem: ControlProblem
    solver: Solver
    policy: Policy
    algorithm: Algorithm
    rows: Transitions

    def result(self) -> PolicyLoss:
        return self.algorithm.loss(self.problem, self.solver, self.policy, self.rows)

    def again(self) -> tuple[Tensor, Tensor]:
        result = self.result()
        if result.law is None:
            raise CtcontrolError(
                f"{type(self.algorithm).__name__} does not report the policy's law, and a natural "
                "gradient needs it; set `law` of its PolicyLoss, or use Updater"
            )
        return result.loss, self.rows.law.kl(result.law).mean()


def _descend(evaluate: _Evaluation, updater: AnyUpdater, *, check_ratio: bool) -> _Step:
    result = evaluate.result()
    if check_ratio:
        _check_ratio(result.log_ratio, evaluate.rows)
    norm = _guarded(updater, result.loss, evaluate.rows, evaluate.again)
    size = float(result.log_ratio.abs().mean())
    return _Step(float(result.loss.detach()), result.clip_fraction, size, norm)


def _fit(
    value: Value,
    critic: Critic,
    updater: Updater,
    trajectory: Trajectory,
    generator: torch.Generator,
) -> tuple[float, float]:
    rows = critic.rows(value, trajectory)
    assert rows.target is not None
    check_finite("the critic", {"targets": rows.target}, "the value function may have diverged")
    losses: list[float] = []
    for _ in range(critic.epochs):
        for part in rows.minibatches(critic.minibatch, generator, share=critic.share):
            loss = critic.loss(value, part)
            _guarded(updater, loss, part)
            losses.append(float(loss.detach()))
    spread = float(rows.target.var())
    explained = 1 - 2 * losses[0] / spread if spread > 0 else float("nan")
    return _mean(losses), explained


def _guarded(
    updater: AnyUpdater, loss: Tensor, rows: Transitions, again: Reevaluate | None = None
) -> float:
    try:
        return updater.step(loss, again)
    except NumericalError as error:
        raise NumericalError(str(error), _tensors(rows)) from None


def _check_ratio(log_ratio: Tensor, rows: Transitions) -> None:
    worst = float(log_ratio.abs().max())
    if not worst <= RATIO_TOLERANCE:
        raise NumericalError(
            "before the first update the log likelihood ratio should be 0 but reaches "
            f"{worst:.3g}: the policy computes something else in the update than in the rollout; "
            "put dropout and batch statistics in evaluation mode and keep states and scores in "
            "float32",
            _tensors(rows),
        )


def _tensors(rows: Transitions) -> dict[str, Tensor]:
    named = {
        "t0": rows.t0,
        "t1": rows.t1,
        "x": rows.x,
        "action": rows.action,
        "mean": rows.law.mean,
    }
    extra = {"signal": rows.signal, "target": rows.target, "anchor": rows.anchor}
    return named | {k: v for k, v in extra.items() if v is not None}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
