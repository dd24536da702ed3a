"""The contract of `Algorithm`: its loss descends along the exact policy gradient, and only that."""

import copy
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import (
    Algorithm,
    ContinuousPPO,
    Critic,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    Iteration,
    Linear,
    MonteCarloAdvantage,
    NoiseAbsorbingPolicy,
    NoiseAwareFit,
    PinnedValue,
    Policy,
    RatedValue,
    SarsaFit,
    Solver,
    TimeGrid,
    Trajectory,
    Transitions,
    Updater,
    Value,
    improve,
    simulate,
)
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.solvers import DDIM
from tests.helpers import assert_close, assert_covers, assert_mean, normal, seeded
from tests.problems import LearnedStd, LinearProblem, QuadraticReward, exact_for, regulator
from tests.tables import ALGORITHMS, Network, Row, kinds, over, schedule

SOLVER = EulerMaruyama()
GRID = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def test_every_implementation_has_a_row() -> None:
    assert_covers(Algorithm, kinds(ALGORITHMS))


def _rows(
    algorithm: Algorithm,
    linear: LinearProblem,
    policy: Policy,
    value: Value | None,
    path: Trajectory,
) -> Transitions:
    return path.transitions(signal=algorithm.signal(linear.problem, SOLVER, value, path))


def _gradients(
    algorithm: Algorithm,
    linear: LinearProblem,
    policy: Policy,
    value: Value | None,
    *,
    rollouts: int = 48,
    batch: int = 200,
    solver: Solver = SOLVER,
    grid: TimeGrid = GRID,
) -> list[Tensor]:
    """Minus the gradient of the loss, (rollouts, *parameter), from independent rollouts."""
    generator, parameters = seeded(11), list(policy.parameters())
    found = []
    for _ in range(rollouts):
        path = simulate(linear.problem, policy, grid, batch, generator=generator, solver=solver)
        rows = path.transitions(signal=algorithm.signal(linear.problem, solver, value, path))
        loss = algorithm.loss(linear.problem, solver, policy, rows).loss
        found.append(torch.autograd.grad(-loss, parameters, materialize_grads=True))
    return [torch.stack(column) for column in zip(*found, strict=True)]


def _regularizers(case: Row) -> list[str]:
    """Those that an algorithm can do with; all, if its row does not say."""
    return case.facts.get("regularizers", ["kl_weight", "temperature"])


@over(ALGORITHMS)
class TestAlgorithm:
    def _scene(self, case: Row, batch: int = 8) -> tuple[Any, LinearProblem, Policy, Transitions]:
        linear = regulator(**{_regularizers(case)[0]: 0.5})
        policy = GaussianPolicy(linear.mean(K, k), 0.4)
        value = exact_for(case.exact, linear, GRID, policy, linear.values(GRID, K, k, STD))
        path = simulate(linear.problem, policy, GRID, batch, generator=seeded(4))
        algorithm = case.make()
        return algorithm, linear, policy, _rows(algorithm, linear, policy, value, path)

    def test_ratio_is_one_before_the_first_update(self, case: Row) -> None:
        algorithm, linear, policy, rows = self._scene(case)
        result = algorithm.loss(linear.problem, SOLVER, policy, rows)
        assert result.log_ratio.shape == (len(rows),)
        assert_close(result.log_ratio, 0.0, 1e-12)
        assert result.clip_fraction == 0.0
        assert result.loss.ndim == 0
        assert not result.log_ratio.requires_grad

    def test_loss_touches_nothing(self, case: Row) -> None:
        algorithm, linear, policy, rows = self._scene(case)
        before = copy.deepcopy(policy.state_dict())
        state = torch.get_rng_state()
        assert rows.signal is not None
        signal = rows.signal.clone()
        algorithm.loss(linear.problem, SOLVER, policy, rows)
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(signal, rows.signal)
        for name, after in policy.state_dict().items():
            assert torch.equal(before[name], after)
        assert all(p.grad is None for p in policy.parameters())

    def test_loss_is_a_mean_over_rows(self, case: Row) -> None:
        """So that minibatches of equal size average to the whole, in any order."""
        algorithm, linear, policy, rows = self._scene(case)
        whole = algorithm.loss(linear.problem, SOLVER, policy, rows).loss
        order = torch.randperm(len(rows), generator=seeded(5)).split(len(rows) // 4)
        parts = [algorithm.loss(linear.problem, SOLVER, policy, rows[i]).loss for i in order]
        assert_close(torch.stack(parts).mean(), whole)

    @pytest.mark.parametrize("regularizer", ["kl_weight", "temperature"])
    def test_gradient_is_the_policy_gradient(self, case: Row, regularizer: str) -> None:
        """Exactly that of the chain, for coupled states, discount, running reward and penalty."""
        if regularizer not in _regularizers(case):
            pytest.skip(f"is not defined for a {regularizer}")
        linear = regulator(**{regularizer: 0.5})
        policy = GaussianPolicy(linear.mean(K, k), 0.4)
        value = exact_for(case.exact, linear, GRID, policy, linear.values(GRID, K, k, STD))
        found = _gradients(case.make(), linear, policy, value)
        truth = linear.gradient(GRID, K, k, STD)
        for samples, exact in zip(found, truth[:2], strict=True):
            assert_mean(samples, exact)
            stderr = samples.std(0) / len(samples) ** 0.5
            assert float((exact.abs() / stderr).max()) > 10  # the test can tell it from zero

    def test_gradient_of_the_exploration(self, case: Row) -> None:
        if not case.learns_std:
            pytest.skip("closed forms drop what is quadratic in the action's noise: O(Δt)")
        linear, std = regulator(temperature=0.5), LearnedStd(0.4)
        policy = GaussianPolicy(linear.mean(K, k), std)
        value = exact_for(case.exact, linear, GRID, policy, linear.values(GRID, K, k, STD))
        slopes = _gradients(case.make(), linear, policy, value)[-1]
        exact = linear.gradient(GRID, K, k, STD)[2] * 0.4  # d/d log std
        assert_mean(slopes, exact)

    def test_gradient_with_absorbed_noise(self, case: Row) -> None:
        """The discrete-time method is the same loss with another policy."""
        linear = regulator(**{_regularizers(case)[0]: 0.5})
        policy = NoiseAbsorbingPolicy(linear.mean(K, k), linear.sde, SOLVER, GRID)
        values = linear.values(GRID, K, k, policy.table, absorbs=True)
        value = exact_for(case.exact, linear, GRID, policy, values)
        found = _gradients(case.make(), linear, policy, value)
        truth = linear.gradient(GRID, K, k, policy.table, absorbs=True)
        for samples, exact in zip(found, truth[:2], strict=True):
            assert_mean(samples, exact)

    @pytest.mark.parametrize("absorbs", [False, True])
    def test_gradient_under_another_scheme(self, case: Row, absorbs: bool) -> None:
        """Loss, penalty and signal all speak of the chain that was run: here DDIM at η = 0.7."""
        if case.kind is ContinuousPPO and case.name == "PPO/Ito":
            pytest.skip("the rate of continuous time is not that of a coarse DDIM chain")
        linear, solver = _denoising(**{_regularizers(case)[0]: 0.5}), DDIM(0.7)
        grid = TimeGrid.from_times([0.0, 0.2, 0.45, 0.7, linear.horizon])
        slope, shift = torch.tensor([[0.2]]).double(), torch.tensor([0.3]).double()
        mean, std = linear.mean(slope, shift), torch.tensor(0.5, dtype=torch.float64)
        policy: Policy = GaussianPolicy(mean, 0.5)
        if absorbs:
            policy = NoiseAbsorbingPolicy(mean, linear.sde, solver, grid)
            std = policy.table
        values = linear.values(grid, slope, shift, std, absorbs=absorbs)
        value = exact_for(case.exact, linear, grid, policy, values)
        found = _gradients(case.make(), linear, policy, value, solver=solver, grid=grid)
        truth = linear.gradient(grid, slope, shift, std, absorbs=absorbs)
        for samples, exact in zip(found, truth[:2], strict=True):
            assert_mean(samples, exact)

    def test_the_same_seed_gives_the_same_run(self, case: Row) -> None:
        first, second = _Run(case), _Run(case)
        one, two = list(first.go(3)), list(second.go(3))
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a.trajectory.states, b.trajectory.states)
            assert a.policy_loss == b.policy_loss
            assert a.value_loss == b.value_loss
        assert first.same_as(second)
        assert not torch.equal(one[0].trajectory.states, one[1].trajectory.states)

    def test_a_resumed_run_is_the_uninterrupted_one(self, case: Row) -> None:
        whole = _Run(case)
        last = list(whole.go(4))[-1]
        half = _Run(case)
        list(half.go(2))
        resumed = _Run(case)
        resumed.restore(half.state())
        final = list(resumed.go(2, start=2))[-1]
        assert resumed.same_as(whole)
        assert final.index == last.index == 3
        assert torch.equal(final.trajectory.states, last.trajectory.states)

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"epochs": -1}, "epochs must be a whole number >= 0, got -1"),
            ({"epochs": 1.5}, "epochs must be a whole number >= 0, got 1.5"),
            ({"share": 0.0}, r"share must lie in \(0, 1\], got 0.0"),
            ({"share": 1.5}, r"share must lie in \(0, 1\], got 1.5"),
        ],
    )
    def test_bad_numbers_are_named(self, case: Row, settings: dict[str, Any], says: str) -> None:
        with pytest.raises(CtcontrolError, match=says):
            case.make(**settings)


def _denoising(**weight: float) -> LinearProblem:
    """Fine-tuning N(0.7, 0.5) under the table of a discrete model, with the step of DDIM."""
    table, eta = schedule(), 0.7

    def variance(t: Tensor) -> Tensor:
        return 1 - 0.5 * table.alpha(t) ** 2

    def ddim(t0: Tensor, t1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a0, a1 = table.alpha(t0) ** 2, table.alpha(t1) ** 2
        spread = eta**2 * (1 - a1) / (1 - a0) * (1 - a0 / a1)
        # The mean in terms of ε = −σ·score, as in the paper.
        epsilon = (1 - a1 - spread).sqrt() - (a1 * (1 - a0) / a0).sqrt()
        return (a1 / a0).sqrt(), -epsilon * (1 - a0).sqrt(), spread.sqrt()

    none = torch.zeros(1, 1, dtype=torch.float64)
    return LinearProblem(
        sde=ReverseSDE(table),
        reward=QuadraticReward(Q=none, R=0.0, G=none + 0.4, g=none[0] + 1.3),
        horizon=table.horizon,
        start_mean=none[0] + 0.1,
        start_std=1.0,
        **weight,
        slope=lambda t: 1 / variance(t),
        offset=lambda t: 0.7 * table.alpha(t) / variance(t),
        scheme=ddim,
    )


class Slopes(nn.Module):
    """Trainable coefficients of a rate, linear in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 2, dtype=torch.float64)

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.map(x)


class _Run:
    """Everything that changes in a training run, small."""

    def __init__(self, case: Row) -> None:
        torch.manual_seed(1)
        self.linear = regulator(**{_regularizers(case)[0]: 0.2})
        self.policy = GaussianPolicy(self.linear.mean(K, k), LearnedStd(0.4))
        self.value: Value = PinnedValue(
            lambda t, x, c, mean: self.linear.reward.terminal(x, c), Network(2), Linear(1.2)
        )
        self.critic: Critic = NoiseAwareFit(minibatch=32)
        if case.exact == "rate":
            self.value = RatedValue(self.value, Slopes())
            self.critic = SarsaFit(minibatch=32)
        self.updaters = (Updater.adam(self.policy, 0.01), Updater.adam(self.value, 0.01))
        self.generator = seeded(9)
        self.algorithm = case.make(epochs=2)

    def go(self, iterations: int, start: int = 0) -> Iterator[Iteration]:
        run = improve(
            self.linear.problem,
            self.policy,
            self.algorithm,
            GRID,
            batch=16,
            minibatch=24,
            updater=self.updaters[0],
            generator=self.generator,
            value=self.value,
            critic=self.critic,
            critic_updater=self.updaters[1],
            start=start,
        )
        for turn in itertools.islice(run, iterations):
            self.algorithm = turn.algorithm
            yield turn

    def state(self) -> dict[str, Any]:
        modules: dict[str, nn.Module] = {"policy": self.policy, "value": self.value}
        return {
            **{name: copy.deepcopy(m.state_dict()) for name, m in modules.items()},
            "updaters": [copy.deepcopy(u.state_dict()) for u in self.updaters],
            "generator": self.generator.get_state(),
            "algorithm": self.algorithm,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.value.load_state_dict(state["value"])
        for updater, saved in zip(self.updaters, state["updaters"], strict=True):
            updater.load_state_dict(saved)
        self.generator.set_state(state["generator"])
        self.algorithm = state["algorithm"]

    def same_as(self, other: "_Run") -> bool:
        mine = [*self.policy.parameters(), *self.value.parameters()]
        theirs = [*other.policy.parameters(), *other.value.parameters()]
        same = all(bool(torch.equal(p, q)) for p, q in zip(mine, theirs, strict=True))
        return same and bool(torch.equal(self.generator.get_state(), other.generator.get_state()))


def test_a_batch_mean_as_baseline_costs_one_over_batch() -> None:
    """Each path is a part of its own baseline, which shrinks the gradient by 1 − 1/batch."""
    linear = regulator()
    policy = GaussianPolicy(linear.mean(K, k), 0.4)
    algorithm = ContinuousPPO(advantage=MonteCarloAdvantage())
    found = _gradients(algorithm, linear, policy, None, rollouts=1500, batch=4)
    truth = linear.gradient(GRID, K, k, STD)
    for samples, exact in zip(found, truth[:2], strict=True):
        assert_mean(samples, 0.75 * exact)
