"""Rollouts in parts: the same paths, rewarded beside, whatever the parts."""

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from tests.helpers import assert_close, normal, seeded
from tests.peers import together
from tests.problems import Isotropic, constant, regulator

GRID = ct.TimeGrid.uniform(1.2, 5)
LINEAR = regulator(kl_weight=0.3)
MEAN = LINEAR.mean(normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2)
POLICY = ct.GaussianPolicy(MEAN, 0.3)


def paths(batch: int = 8, policy: ct.Policy = POLICY, **more: Any) -> Any:
    problem = more.pop("problem", LINEAR.problem)
    return ct.simulate(problem, policy, GRID, batch, generator=seeded(3), **more)


def assert_same(one: ct.Trajectory, other: ct.Trajectory) -> None:
    for name in ("states", "actions", "means", "stds", "innovations", "penalties", "terminal"):
        assert_close(getattr(one, name), getattr(other, name), 1e-12)
    assert one.anchors is not None
    assert other.anchors is not None
    assert_close(one.anchors, other.anchors, 1e-12)


@pytest.mark.parametrize("micro_batch", [1, 3, 8, 100])
@pytest.mark.parametrize(
    "noise", [None, ct.Sobol(4, scrambles=2), ct.Antithetic(5), ct.MomentMatched(6, group=8)]
)
def test_parts_are_the_rows_of_the_whole(noise: ct.NoiseSource | None, micro_batch: int) -> None:
    assert_same(paths(noise=noise, micro_batch=micro_batch), paths(noise=noise))


def test_paths_of_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctcontrol.noise._base.TILE", 6)
    whole = paths(20)
    assert_same(paths(20, micro_batch=4), whole)
    for one in together(4, lambda c: paths(20, collective=c, micro_batch=1)):
        assert isinstance(one, ct.Trajectory), one
        assert_same(one, whole)


def test_more_processes_than_paths() -> None:
    for one in together(3, lambda c: paths(2, collective=c)):
        assert isinstance(one, ct.Trajectory), one
        assert_same(one, paths(2))


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 3)])
@pytest.mark.parametrize("absorbs", [False, True])
def test_paths_of_images(shape: tuple[int, ...], absorbs: bool) -> None:
    sde = Isotropic(constant(-0.5), constant(1.0), constant(0.7))
    problem = ct.ControlProblem(
        sde=sde,
        reward=ct.TerminalReward(lambda x, c: x.flatten(1).sum(1) + c),
        initial=lambda n, g: (torch.randn(n, *shape, generator=g), torch.arange(n).float()),
        horizon=1.2,
    )
    mean: ct.MeanFunction = lambda t, x, c: x.tanh()
    policy: ct.Policy = ct.GaussianPolicy(mean, 0.3)
    if absorbs:
        policy = ct.NoiseAbsorbingPolicy(mean, sde, ct.EulerMaruyama(), GRID)
    whole = paths(7, policy, problem=problem)
    for micro_batch in (1, 2, 3):
        part = paths(7, policy, problem=problem, micro_batch=micro_batch)
        assert torch.equal(part.states, whole.states)
        assert torch.equal(part.terminal, whole.terminal)


@pytest.mark.parametrize("store", ["none", "checkpoints"])
def test_sums_of_parts(store: Any) -> None:
    policy = ct.GaussianPolicy(MEAN)
    problem = replace(LINEAR.problem, regularizer=None)
    whole = paths(9, policy, problem=problem, store=store)
    part = paths(9, policy, problem=problem, store=store, micro_batch=4)
    for name in ("final", "returns", "divergence", "times", "states"):
        assert_close(getattr(part, name), getattr(whole, name), 1e-12)


class Names:
    """A context that is no tensor, but can be indexed by one."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __getitem__(self, rows: Tensor) -> "Names":
        return Names([self.names[i] for i in rows.tolist()])


def test_contexts_of_any_kind() -> None:
    def initial(batch: int, generator: torch.Generator) -> tuple[Tensor, Names]:
        x, _ = LINEAR.problem.initial(batch, generator)
        return x, Names([f"path {i}" for i in range(batch)])

    seen: list[list[str]] = []

    def reward(x: Tensor, context: Any) -> Tensor:
        seen.append(context.names)
        return x.sum(1)

    problem = replace(LINEAR.problem, initial=initial, reward=ct.TerminalReward(reward))
    path = paths(5, problem=problem, micro_batch=3)
    assert seen == [["path 0", "path 1", "path 2"], ["path 3", "path 4"]]
    assert path.context.names == [f"path {i}" for i in range(5)]


class TestBeside:
    def _problem(self, reward: Any, *, beside: bool = True) -> ct.ControlProblem:
        return replace(LINEAR.problem, reward=ct.TerminalReward(reward, beside=beside))

    @pytest.mark.parametrize("beside", [False, True])
    def test_the_reward_of_a_part_in_another_thread(self, beside: bool) -> None:
        threads: list[bool] = []

        def reward(x: Tensor, context: object) -> Tensor:
            assert not torch.is_grad_enabled()
            threads.append(threading.current_thread() is threading.main_thread())
            return x.sum(1)

        path = paths(8, problem=self._problem(reward, beside=beside), micro_batch=3)
        assert threads == [not beside] * 3
        assert_close(path.terminal, path.final.sum(1))
        paths(8, problem=self._problem(reward, beside=beside))
        assert threads[3:] == [True]  # there is nothing to be beside of

    def test_a_part_is_rewarded_while_the_next_one_moves(self) -> None:
        """The first reward ends only when the second part has begun."""
        begun = threading.Event()
        calls: list[int] = []

        def mean(t: Tensor, x: Tensor, context: object) -> Tensor:
            calls.append(len(x))
            if len(calls) > GRID.steps:
                begun.set()
            return 0 * x

        def reward(x: Tensor, context: object) -> Tensor:
            assert begun.wait(30)
            return x.sum(1)

        problem = replace(self._problem(reward), regularizer=None)
        path = paths(4, ct.GaussianPolicy(mean), problem=problem, micro_batch=2)
        assert path.batch == 4

    def test_what_it_raises_is_raised_and_nothing_more_is_begun(self) -> None:
        error, calls = ValueError("no reward for the prompt 'a cat'"), list[int]()
        failed = threading.Event()

        def reward(x: Tensor, context: object) -> Tensor:
            calls.append(len(x))
            failed.set()
            raise error

        def mean(t: Tensor, x: Tensor, context: object) -> Tensor:
            assert not calls or failed.wait(30)
            return 0 * x

        problem = replace(self._problem(reward), regularizer=None)
        with pytest.raises(ValueError, match="a cat") as caught:
            paths(9, ct.GaussianPolicy(mean), problem=problem, micro_batch=2)
        assert caught.value is error
        assert calls == [2]

    def test_an_interrupt_does_not_wait_for_it(self) -> None:
        release, seen, calls = threading.Event(), list[int](), list[int]()

        def reward(x: Tensor, context: object) -> Tensor:
            assert release.wait(60)
            seen.append(len(x))
            return x.sum(1)

        def mean(t: Tensor, x: Tensor, context: object) -> Tensor:
            calls.append(len(x))
            if len(calls) > GRID.steps:
                raise KeyboardInterrupt
            return 0 * x

        problem = replace(self._problem(reward), regularizer=None)
        with pytest.raises(KeyboardInterrupt):
            paths(5, ct.GaussianPolicy(mean), problem=problem, micro_batch=2)
        assert not seen
        release.set()
