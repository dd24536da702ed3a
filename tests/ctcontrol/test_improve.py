"""The training loop: it improves, it counts, and it refuses."""

import copy
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    Action,
    ActionAdvantage,
    Algorithm,
    ContinuousPPO,
    ControlledSDE,
    ControlProblem,
    CtcontrolError,
    EulerMaruyama,
    GaussianPolicy,
    Iteration,
    KLPenalty,
    Linear,
    MonteCarloAdvantage,
    MonteCarloFit,
    Noise,
    NoiseAwareFit,
    NumericalError,
    Passes,
    PathwisePolicyGradient,
    PinnedValue,
    Policy,
    PolicyGradient,
    PolicyLoss,
    ProximalRegression,
    RootKLPenalty,
    Solver,
    State,
    TemporalDifferenceAdvantage,
    TerminalReward,
    Time,
    TimeGrid,
    Trajectory,
    Transitions,
    Updater,
    Value,
    improve,
    simulate,
    values_along,
)
from tests.helpers import assert_close, seeded
from tests.problems import ChainValue, LinearProblem, regulator
from tests.tables import Network

GRID = TimeGrid.uniform(1.2, 6)
LINEAR = regulator(kl_weight=0.3)
ZERO = torch.zeros((), dtype=torch.float64)


def _policy(std: float = 0.3) -> GaussianPolicy:
    return GaussianPolicy(LINEAR.mean(LINEAR.zero, LINEAR.k0), std)


def _value() -> PinnedValue:
    torch.manual_seed(2)
    return PinnedValue(lambda t, x, c, mean: LINEAR.reward.terminal(x, c), Network(2), Linear(1.2))


def _run(iterations: int, policy: Policy, algorithm: Algorithm, **changes: Any) -> list[Iteration]:
    settings: dict[str, Any] = {
        "batch": 64,
        "minibatch": 96,
        "updater": Updater.adam(policy, 0.03),
        "generator": seeded(1),
        **changes,
    }
    problem = settings.pop("problem", LINEAR.problem)
    return list(itertools.islice(improve(problem, policy, algorithm, GRID, **settings), iterations))


def _best() -> tuple[float, float]:
    """The return of the untrained policy and of the best constant K and k, without exploration."""
    K, k = LINEAR.zero.clone().requires_grad_(), LINEAR.k0.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([K, k], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -LINEAR.expected_return(GRID, K, k, ZERO)
        value.backward()
        return value

    start = -float(loss().detach())
    optimizer.step(loss)
    return start, -float(loss().detach())


@pytest.mark.parametrize(
    ("algorithm", "rate", "minibatch"),
    [
        (ContinuousPPO(advantage=TemporalDifferenceAdvantage()), 0.03, 96),
        (ContinuousPPO(advantage=ActionAdvantage(), epochs=2), 0.03, 96),
        (ContinuousPPO(ActionAdvantage(), clip=None, trust=KLPenalty(), epochs=2), 0.03, 96),
        (ContinuousPPO(clip=None, trust=RootKLPenalty(target=0.2)), 0.015, 96),
        (PathwisePolicyGradient(), 0.03, 96),
        (PathwisePolicyGradient(proximity=0.3, epochs=3), 0.05, 96),
        (ProximalRegression(proximity=0.3, epochs=3), 0.05, 96),
        (PolicyGradient(), 0.05, 768),  # the whole rollout: later updates would be off policy
        (PolicyGradient(ActionAdvantage(), online=True), 0.01, 128),  # one step of time an update
    ],
)
def test_training_finds_the_best_gain(algorithm: Algorithm, rate: float, minibatch: int) -> None:
    """From scratch, value network included; six steps leave a bias of O(Δt) to closed forms."""
    policy, value = _policy(), _value()
    _run(
        60,
        policy,
        algorithm,
        batch=128,
        minibatch=minibatch,
        updater=Updater.adam(policy, rate),
        value=value,
        critic=NoiseAwareFit(epochs=2, minibatch=128),
        critic_updater=Updater.adam(value, 0.01),
    )
    start, best = _best()
    assert best - _reached(policy) < 0.15 * (best - start)


def _reached(policy: GaussianPolicy) -> float:
    """The exact return of what was learned, without exploration."""
    K, k = (p.detach() for p in policy.parameters())
    return float(LINEAR.expected_return(GRID, K, k, ZERO))


def test_training_without_a_value() -> None:
    policy = _policy()
    turns = _run(40, policy, ContinuousPPO(advantage=MonteCarloAdvantage()), batch=256)
    start, best = _best()
    assert best - _reached(policy) < 0.4 * (best - start)
    assert all(math.isnan(t.value_loss) and math.isnan(t.explained_variance) for t in turns)


@pytest.mark.parametrize("critic", [MonteCarloFit(epochs=4), NoiseAwareFit(epochs=4)])
def test_a_waiting_policy_lets_the_value_learn(critic: MonteCarloFit) -> None:
    policy, value = _policy(), _value()
    before = copy.deepcopy(policy.state_dict())
    turns = _run(
        40,
        policy,
        PathwisePolicyGradient(),
        value=value,
        critic=critic,
        critic_updater=Updater.adam(value, 0.02),
        policy_waits=40,
        batch=512,
    )
    assert all(torch.equal(before[n], p) for n, p in policy.state_dict().items())
    assert {t.updates for t in turns} == {0}
    assert all(math.isnan(t.policy_loss) and t.log_ratio == 0.0 for t in turns)
    std = torch.tensor(0.3, dtype=torch.float64)
    truth = ChainValue(GRID, LINEAR.values(GRID, LINEAR.zero, LINEAR.k0, std))
    path = turns[-1].trajectory
    with torch.no_grad():
        exact, found = values_along(truth, path)[:-1], values_along(value, path)[:-1]
    assert float((found - exact).square().mean()) < 0.05 * float(exact.var())
    assert turns[-1].explained_variance > turns[0].explained_variance


def test_waiting_ends_and_resumed_runs_count_on() -> None:
    policy, value = _policy(), _value()
    turns = _run(
        4,
        policy,
        PathwisePolicyGradient(),
        value=value,
        policy_waits=7,
        start=5,
    )
    assert [t.index for t in turns] == [5, 6, 7, 8]
    assert [t.updates > 0 for t in turns] == [False, False, True, True]


def test_the_record_is_of_the_rollout() -> None:
    away = GaussianPolicy(LINEAR.mean(LINEAR.zero + 0.3, LINEAR.k0 + 0.5), 0.3)
    turn = _run(1, away, PathwisePolicyGradient(), value=_value())[0]
    path = turn.trajectory
    assert float(path.penalties.min()) > 0
    assert turn.returns.mean == pytest.approx(float(path.returns().mean()))
    assert turn.divergence.mean == pytest.approx(float(path.penalties.sum(0).mean()))
    reward = path.terminal + (path.rewards * GRID.lengths[:, None]).sum(0)
    assert turn.reward.mean == pytest.approx(float(reward.mean()))
    assert turn.returns.n == 64


@pytest.mark.parametrize(
    ("epochs", "share", "minibatch", "updates"),
    [(1, 1.0, 96, 4), (3, 1.0, 96, 12), (2, 0.5, 96, 4), (0, 1.0, 96, 0), (1, 1.0, 10_000, 1)],
)
def test_updates_are_epochs_times_minibatches(
    epochs: int, share: float, minibatch: int, updates: int
) -> None:
    algorithm = PathwisePolicyGradient(epochs=epochs, share=share)
    turn = _run(1, _policy(), algorithm, value=_value(), minibatch=minibatch)[0]
    assert turn.updates == updates


def test_explained_variance_by_hand() -> None:
    """Before the fit, with all rows in one minibatch."""
    value = _value()
    before = copy.deepcopy(value)
    turn = _run(
        1,
        _policy(),
        PathwisePolicyGradient(),
        value=value,
        critic=MonteCarloFit(minibatch=10_000),
        critic_updater=Updater.adam(value, 0.01),
    )[0]
    targets = turn.trajectory.return_to_go()
    error = (values_along(before, turn.trajectory)[:-1] - targets).square().mean()
    assert turn.explained_variance == pytest.approx(1 - float(error / targets.var()))
    assert turn.value_loss == pytest.approx(0.5 * float(error))


@dataclass(frozen=True)
class Broken(Passes):
    """An algorithm that yields what it is told."""

    signal_value: float = 0.0
    loss_value: float = 0.0
    ratio: float = 0.0

    def signal(
        self, problem: ControlProblem, solver: Solver, value: Value | None, trajectory: Trajectory
    ) -> Tensor:
        """A constant."""
        return torch.full_like(trajectory.rewards, self.signal_value)

    def loss(
        self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
    ) -> PolicyLoss:
        """A constant times the parameters."""
        total = torch.stack([p.sum() for p in policy.parameters()]).sum()
        return PolicyLoss(self.loss_value * total, torch.full_like(rows.t0, self.ratio), 0.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
class TestNumbersThatAreNotFinite:
    def test_in_the_loss(self, bad: float) -> None:
        policy = _policy()
        before = copy.deepcopy(policy.state_dict())
        with pytest.raises(NumericalError, match="the loss is") as e:
            _run(1, policy, Broken(loss_value=bad))
        assert all(torch.equal(before[n], p) for n, p in policy.state_dict().items())
        assert {"t0", "t1", "x", "action", "mean", "signal", "anchor"} <= set(e.value.batch)
        assert e.value.batch["x"].shape == (96, 2)

    def test_in_the_signal(self, bad: float) -> None:
        with pytest.raises(NumericalError, match=r"the advantages: signal has 384 of 384 entries"):
            _run(1, _policy(), Broken(signal_value=bad))

    def test_in_the_likelihood_ratio(self, bad: float) -> None:
        with pytest.raises(NumericalError, match="before the first update the log likelihood"):
            _run(1, _policy(), Broken(ratio=bad))

    def test_in_the_terminal_reward(self, bad: float) -> None:
        problem = replace(LINEAR.problem, reward=TerminalReward(lambda x, c: bad * x[:, 0].abs()))
        with pytest.raises(NumericalError, match="terminal rewards has 64 of 64"):
            _run(1, _policy(), Broken(), problem=problem)

    def test_in_the_targets_of_the_critic(self, bad: float) -> None:
        value = _value()
        with torch.no_grad():
            next(value.parameters()).fill_(bad)
        with pytest.raises(NumericalError, match=r"the critic: targets has .* have diverged"):
            _run(
                1,
                _policy(),
                Broken(),
                value=value,
                critic=NoiseAwareFit(),
                critic_updater=Updater.adam(value, 0.1),
            )


class TestDoors:
    """Refused at the call, before anything is simulated."""

    def _call(self, **changes: Any) -> object:
        policy = _policy()
        settings: dict[str, Any] = {
            "batch": 8,
            "minibatch": 8,
            "updater": Updater.adam(policy, 0.1),
            "generator": seeded(),
            **changes,
        }
        return improve(LINEAR.problem, policy, PathwisePolicyGradient(), GRID, **settings)

    @pytest.mark.parametrize("name", ["batch", "minibatch"])
    def test_counts(self, name: str) -> None:
        with pytest.raises(CtcontrolError, match=f"{name} must be a whole number >= 1, got 0"):
            self._call(**{name: 0})

    @pytest.mark.parametrize("missing", ["critic", "critic_updater", "value"])
    def test_a_critic_comes_complete(self, missing: str) -> None:
        value = _value()
        parts = {
            "value": value,
            "critic": MonteCarloFit(),
            "critic_updater": Updater.adam(value, 0.1),
        }
        del parts[missing]
        with pytest.raises(CtcontrolError, match="belong together; give all three, or no critic"):
            self._call(**parts)

    def test_a_missing_value_is_named_by_the_algorithm(self) -> None:
        with pytest.raises(CtcontrolError, match="PathwisePolicyGradient needs a value function"):
            _run(1, _policy(), PathwisePolicyGradient())


def test_the_argument_is_left_alone_where_it_should_be() -> None:
    """Problem and reference are read only: the reference's parameters never move."""
    problem = LINEAR.problem
    regularizer: Any = problem.regularizer
    before = copy.deepcopy(regularizer.reference.state_dict())
    _run(3, _policy(), PathwisePolicyGradient(), value=_value(), problem=problem)
    for name, after in regularizer.reference.state_dict().items():
        assert_close(after, before[name], 0.0)
    assert isinstance(LINEAR, LinearProblem)


def test_one_scheme_runs_and_judges() -> None:
    """Rollout, signal and loss get the solver that was given, not a default."""
    seen: list[object] = []

    class Twice(EulerMaruyama):
        """Every step with four times the variance."""

        def noise(
            self, sde: ControlledSDE, t0: Time, t1: Time, x: State, a: Action, dw: Noise
        ) -> State:
            return 2 * super().noise(sde, t0, t1, x, a, dw)

    class Spy(Broken):
        def signal(
            self,
            problem: ControlProblem,
            solver: Solver,
            value: Value | None,
            trajectory: Trajectory,
        ) -> Tensor:
            seen.append(solver)
            return super().signal(problem, solver, value, trajectory)

        def loss(
            self, problem: ControlProblem, solver: Solver, policy: Policy, rows: Transitions
        ) -> PolicyLoss:
            seen.append(solver)
            return super().loss(problem, solver, policy, rows)

    scheme = Twice()
    turn = _run(1, _policy(), Spy(), solver=scheme)[0]
    path = simulate(LINEAR.problem, _policy(), GRID, 64, generator=seeded(1), solver=scheme)
    assert torch.equal(turn.trajectory.states, path.states)
    assert len(seen) == 5
    assert all(s is scheme for s in seen)
