"""THE ONLY TRAINING LOOP."""

import itertools
from collections.abc import Iterator, Sequence
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
from ctcontrol._descent import Descent, Regression, Seen, check_divisible, tensors_of
from ctcontrol._division import ALONE, Collective, Division
from ctcontrol._estimate import Estimate
from ctcontrol._natural import NaturalUpdater
from ctcontrol._policy import Policy
from ctcontrol._problem import ControlProblem
from ctcontrol._simulate import simulate
from ctcontrol._time_grid import TimeGrid
from ctcontrol._trajectory import Trajectory, Transitions
from ctcontrol._updater import Reevaluate, Updater
from ctcontrol._value import Value
from ctcontrol.algorithms._base import Algorithm
from ctcontrol.critics import Critic
from ctcontrol.solvers import Solver
from ctcontrol.solvers._euler import gaussian

AnyUpdater = Updater | NaturalUpdater
"""A step of an optimiser, or a natural gradient with a line search."""


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
    micro_batch: int | None = None,
    collective: Collective = ALONE,
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
        micro_batch: rows (images) that go through a network at once, in rollouts and updates alike;
            None for all there are. A rollout is made in parts of so many paths and a minibatch is
            descended by adding up the gradients of parts of so many rows, so that neither changes
            what is computed. In low precision the same number in both keeps the likelihood ratio
            at 1, provided that it divides `batch` and `minibatch`.
        collective: processes that share out the paths of every rollout and the rows of every
            minibatch. All call this with the same arguments, and all of them make the same steps
            as one process would.

    Raises:
        CtcontrolError: inconsistent arguments.
        NumericalError: a NaN or infinity anywhere, or a likelihood ratio that is not 1 before
            the first update; carries the batch.
    """
    check_count("batch", batch)
    check_count("minibatch", minibatch)
    division = Division(micro_batch, collective)
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
    if division.divides:
        check_divisible(algorithm, critic)
    scheme, actor = gaussian(solver), policy if behavior is None else behavior

    def turns() -> Iterator[Iteration]:
        now = algorithm
        for index in itertools.count(start):
            path = simulate(
                problem,
                actor,
                grid,
                batch,
                generator=generator,
                solver=scheme,
                micro_batch=micro_batch,
                collective=collective,
            )
            value_loss = explained = float("nan")
            if critic is not None and critic_updater is not None and value is not None:
                value_loss, explained = _fit(value, critic, critic_updater, path, generator)
            losses: list[Seen] = []
            norms: list[float] = []
            if index >= policy_waits and now.epochs > 0:
                signal = now.signal(problem, scheme, value, path)
                remedy = "the value function may have diverged"
                check_finite("the advantages", {"signal": signal}, remedy)
                rows = path.transitions(signal=signal)
                for part in now.minibatches(rows, minibatch, generator):
                    first = not losses and behavior is None
                    descent = Descent(problem, scheme, policy, now, part, check_ratio=first)
                    norms.append(_guarded(updater, descent.losses(), part, descent.again()))
                    losses.append(descent.seen())
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
                gradient_norm=_mean(norms),
                updates=len(losses),
                algorithm=now,
            )

    return turns()


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
            regression = Regression(critic, value, part)
            _guarded(updater, regression.losses(), part)
            losses.append(regression.seen())
    spread = float(rows.target.var())
    explained = 1 - 2 * losses[0] / spread if spread > 0 else float("nan")
    return _mean(losses), explained


def _guarded(
    updater: AnyUpdater,
    losses: Iterator[Tensor],
    rows: Transitions,
    again: Sequence[Reevaluate] = (),
) -> float:
    try:
        return updater.step(losses, again, rows.division.collective)
    except NumericalError as error:
        if error.batch:
            raise
        raise NumericalError(str(error), tensors_of(rows)) from None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
