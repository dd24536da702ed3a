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


class Watched(ct.Value):
    """A value that knows the largest number of rows it ever saw."""

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


def test_a_natural_gradient_in_parts_and_shared_out() -> None:
    def run(scene: Scene, **division: Any) -> tuple[list[ct.Iteration], list[Tensor]]:
        scene.algorithm = ct.ContinuousPPO(clip=None, trust=ct.KLPenalty(factor=1.0))
        return scene.run(updater=ct.NaturalUpdater(scene.policy, 0.01), **division)

    scene, whole = Scene(), run(Scene())
    assert_same(run(copy.deepcopy(scene), micro_batch=3), whole, 1e-9)
    for one in together(2, lambda c: run(copy.deepcopy(scene), collective=c)):
        assert not isinstance(one, Exception), one
        assert_same(one, whole, 1e-9)


def test_single_precision_agrees_to_six_digits() -> None:
    module = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
    rows, target = normal(24, 5, dtype=torch.float32), normal(24, seed=2, dtype=torch.float32)

    def loss(i: slice) -> Tensor:
        return (module(rows[i])[:, 0] - target[i]).square().mean()

    norms, found = [], []
    for sizes in ([24], [10, 10, 4]):
        ends = list(itertools.accumulate(sizes))
        parts = (loss(slice(e - n, e)) * (n / 24) for n, e in zip(sizes, ends, strict=True))
        twin = ct.Updater(module, torch.optim.SGD(module.parameters(), lr=0.0), clip_norm=1e9)
        norms.append(twin.step(parts))
        found.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)
    for p, q in zip(*found, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


class Count(nn.Module):
    """A mean action that knows the largest number of rows it ever saw."""

    def __init__(self, mean: nn.Module) -> None:
        super().__init__()
        self.mean, self.most = mean, 0

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        self.most = max(self.most, len(x))
        return self.mean(t, x, context)


@pytest.mark.parametrize("advantage", [ct.NoiseAwareAdvantage(), ct.ItoAdvantage()])
def test_no_network_sees_more_rows(advantage: ct.AdvantageEstimator) -> None:
    scene = Scene()
    scene.value = Watched(scene.value)
    assert isinstance(scene.policy.mean, nn.Module)
    scene.policy.mean = counted = Count(scene.policy.mean)
    scene.algorithm = ct.ContinuousPPO(advantage, trust=ct.KLPenalty(), clip=None)
    scene.run(micro_batch=3)
    assert (counted.most, scene.value.most) == (3, 3)
    scene.run()
    assert (counted.most, scene.value.most) == (BATCH * GRID.steps, BATCH * GRID.steps)


@dataclass(frozen=True)
class Normalized(ct.PathwisePolicyGradient):
    """A loss whose rows depend on each other."""

    @property
    def divisible(self) -> bool:
        return False


class Indivisible(ct.MonteCarloFit):
    """Likewise."""

    divisible = False


def test_a_loss_that_is_no_mean_over_rows_is_refused() -> None:
    scene = Scene()
    scene.algorithm = Normalized()
    with pytest.raises(ct.CtcontrolError, match="Normalized is no mean over rows"):
        scene.run(micro_batch=3)
    scene.run()
    other = Scene()
    other.critic = Indivisible()
    with pytest.raises(ct.CtcontrolError, match="Indivisible is no mean over rows"):
        other.run(micro_batch=3)


def test_a_micro_batch_is_a_whole_number() -> None:
    with pytest.raises(ct.CtcontrolError, match="micro_batch must be a whole number >= 1, got 0"):
        Scene().run(micro_batch=0)


class Spoilt(ct.Value):
    """NaN on the last row it is shown in a share of one process alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.rank = 0

    def at(self, t: Tensor, x: Tensor, context: Any, mean: Tensor | None = None) -> Tensor:
        found = self.scale * x.sum(1)
        return found / 0 * 0 if self.rank == 1 and torch.is_grad_enabled() else found


def test_nan_on_one_process_stops_all() -> None:
    scene = Scene()
    scene.value, scene.critic = Spoilt(), ct.MonteCarloFit(minibatch=13)

    def run(collective: ct.Collective) -> object:
        mine = copy.deepcopy(scene)
        assert isinstance(mine.value, Spoilt)
        mine.value.rank = collective.rank
        return mine.run(collective=collective)

    for error in together(3, run):
        assert isinstance(error, ct.NumericalError)
        assert "the loss is nan" in str(error)
        assert len(error.batch["x"]) == 13  # the whole minibatch, on every process


def test_what_one_process_raises_ends_the_others() -> None:
    def broken(collective: ct.Collective) -> object:
        collective.agree(ct.NumericalError("mine") if collective.rank == 1 else None)
        return None

    first, second, third = together(3, broken)
    assert isinstance(second, ct.NumericalError)
    for other in (first, third):
        assert isinstance(other, ct.PeerFailure)
        assert str(other) == "process 1 of 3 failed"
