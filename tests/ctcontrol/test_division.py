"""Micro-batches and processes: neither changes what is computed, and no network sees more rows."""

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ctcontrol as ct
from tests.helpers import assert_close, normal, seeded
from tests.peers import together
from tests.problems import regulator
from tests.tables import ALGORITHMS, CRITICS, Network, Row, over

GRID = ct.TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
BATCH, MINIBATCH = 11, 17


class Rates(nn.Module):
    """Coefficients of a rate, linear in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 2, dtype=torch.float64)

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.map(x)


@dataclass
class Watched(ct.Value):
    """A value that knows the largest number of rows it ever saw."""

    value: ct.Value

    def __init__(self, value: ct.Value) -> None:
        super().__init__()
        self.value, self.most = value, 0

    def at(self, t: Tensor, x: Tensor, context: Any, mean: Tensor | None = None) -> Tensor:
        self.most = max(self.most, len(x))
        return self.value.at(t, x, context, mean)


class Scene:
    """A small training run, the same every time."""

    def __init__(self, case: Row | None = None, critic: Row | None = None) -> None:
        torch.manual_seed(1)
        weight = "kl_weight" if case is None else case.facts.get("regularizers", ["kl_weight"])[0]
        if critic is not None:
            weight = critic.facts.get("regularizer", weight)
        self.linear = regulator(**{weight: 0.3})
        mean = self.linear.mean(normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2)
        self.policy = ct.GaussianPolicy(mean, ct.LearnedStd(0.4))
        self.algorithm = ct.ContinuousPPO(epochs=2) if case is None else case.make(epochs=2)
        pinned: ct.Value = ct.PinnedValue(
            lambda t, x, c, mean: self.linear.reward.terminal(x, c), Network(2), ct.Linear(1.2)
        )
        fit: Any = ct.NoiseAwareFit
        if case is not None and case.exact == "rate":
            pinned, fit = ct.RatedValue(pinned, Rates()), ct.SarsaFit
        self.value: ct.Value = pinned
        self.critic = (fit if critic is None else critic.make)(minibatch=13, epochs=2)

    def run(self, **division: Any) -> tuple[list[ct.Iteration], list[Tensor]]:
        """Two iterations, and the parameters after them."""
        updater = division.pop("updater", ct.Updater.adam(self.policy, 0.01, weight_decay=0.1))
        turns = ct.improve(
            self.linear.problem,
            self.policy,
            self.algorithm,
            GRID,
            batch=BATCH,
            minibatch=MINIBATCH,
            updater=updater,
            generator=seeded(5),
            value=self.value,
            critic=self.critic,
            critic_updater=ct.Updater.adam(self.value, 0.01),
            **division,
        )
        return list(itertools.islice(turns, 2)), [
            p.detach().clone() for m in (self.policy, self.value) for p in m.parameters()
        ]


def assert_same(
    one: tuple[list[ct.Iteration], list[Tensor]],
    other: tuple[list[ct.Iteration], list[Tensor]],
    tolerance: float = 1e-12,
) -> None:
    """Iterations and parameters agree."""
    for a, b in zip(one[0], other[0], strict=True):
        assert_close(a.trajectory.states, b.trajectory.states, tolerance)
        assert_close(a.trajectory.actions, b.trajectory.actions, tolerance)
        assert_close(a.trajectory.terminal, b.trajectory.terminal, tolerance)
        for name in ("policy_loss", "value_loss", "gradient_norm", "log_ratio"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e3 * tolerance), name
        assert a.clip_fraction == pytest.approx(b.clip_fraction, rel=1e-6)
        assert a.updates == b.updates
    for p, q in zip(one[1], other[1], strict=True):
        assert_close(p, q, 100 * tolerance)  # Adam divides by the gradient's size


@over(ALGORITHMS)
def test_parts_of_a_minibatch_make_its_step(case: Row) -> None:
    assert_same(Scene(case).run(micro_batch=5), Scene(case).run())


@over(CRITICS)
def test_parts_of_a_critics_minibatch_make_its_step(case: Row) -> None:
    assert_same(Scene(critic=case).run(micro_batch=4), Scene(critic=case).run())


@over(ALGORITHMS)
def test_processes_make_the_steps_of_one(case: Row) -> None:
    scene, whole = Scene(case), Scene(case).run()
    for size, micro_batch in ((2, None), (3, 2)):
        division = {"micro_batch": micro_batch}
        for one in together(
            size, lambda c, d=division: copy.deepcopy(scene).run(collective=c, **d)
        ):
            assert not isinstance(one, Exception), one
            assert_same(one, whole)
