"""The plain policy gradient: no ratio, rows in the order of time, test functions."""

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    ContinuousPPO,
    CtcontrolError,
    EulerMaruyama,
    Gaussian,
    GaussianPolicy,
    LearnedStd,
    MonteCarloAdvantage,
    PolicyGradient,
    TimeGrid,
    Transitions,
    inner,
    simulate,
)
from tests.helpers import assert_close, seeded
from tests.problems import ChainValue, regulator

GRID = TimeGrid.from_times([0, 0.1, 0.4, 0.8, 1.2])
LINEAR = regulator(temperature=0.2)


def _policy(shift: float = 0.0) -> GaussianPolicy:
    return GaussianPolicy(LINEAR.mean(LINEAR.zero, LINEAR.k0 + shift), LearnedStd(0.4))


def _rows(algorithm: PolicyGradient, batch: int = 6) -> Transitions:
    path = simulate(LINEAR.problem, _policy(), GRID, batch, generator=seeded(1))
    std = torch.tensor(0.4).double()
    value = ChainValue(GRID, LINEAR.values(GRID, LINEAR.zero, LINEAR.k0, std))
    return path.transitions(signal=algorithm.signal(LINEAR.problem, EulerMaruyama(), value, path))


def _slopes(algorithm: PolicyGradient | ContinuousPPO, policy: GaussianPolicy) -> list[Tensor]:
    loss = algorithm.loss(LINEAR.problem, EulerMaruyama(), policy, _rows(PolicyGradient())).loss
    return list(torch.autograd.grad(loss, list(policy.parameters())))


def test_it_is_the_surrogate_at_the_policy_that_acted_and_nowhere_else() -> None:
    """∇(ϱA) = ϱ A ∇log π: the ratio is 1 only there."""
    surrogate = ContinuousPPO(clip=None)
    for mine, theirs in zip(
        _slopes(PolicyGradient(), _policy()), _slopes(surrogate, _policy()), strict=True
    ):
        assert_close(mine, theirs)
    mine, theirs = (_slopes(a, _policy(0.5))[0] for a in (PolicyGradient(), surrogate))
    assert float((mine - theirs).abs().max()) > 0.05


def test_online_rows_come_in_the_order_of_time() -> None:
    algorithm = PolicyGradient(online=True, epochs=2)
    rows = _rows(algorithm)
    parts = list(algorithm.minibatches(rows, 6, seeded(2)))
    assert [set(p.t0.tolist()) for p in parts] == [{t} for t in GRID.times[:-1].tolist()] * 2
    assert all(len(p) == 6 for p in parts)
    half = list(PolicyGradient(online=True, share=0.5).minibatches(rows, 6, seeded(2)))
    assert [len(p) for p in half] == [3] * 4
    shuffled = next(PolicyGradient().minibatches(rows, 6, seeded(2)))
    assert len(set(shuffled.t0.tolist())) > 1


def test_a_test_function_adds_its_gradient_times_the_advantage() -> None:
    def z(law: Gaussian, rows: Transitions) -> Tensor:
        return 0.7 * inner(law.mean, rows.x)

    policy = _policy()
    rows = _rows(PolicyGradient())
    gain, _offset, _ = policy.parameters()
    with_, without = (
        torch.autograd.grad(
            PolicyGradient(test=t).loss(LINEAR.problem, EulerMaruyama(), policy, rows).loss, gain
        )[0]
        for t in (z, None)
    )
    assert rows.signal is not None
    weight = rows.weight * (rows.t1 - rows.t0) * rows.signal
    by_hand = 0.7 * rows.steps * torch.einsum("b,bi,bj->ij", weight, rows.x, rows.x) / len(rows)
    assert_close(with_ - without, by_hand)  # mean = … − Kx, so ζ = −0.7 x xᵀ


def test_without_exploration_there_is_no_likelihood() -> None:
    policy = GaussianPolicy(LINEAR.mean(LINEAR.zero, LINEAR.k0))
    linear = regulator()
    path = simulate(linear.problem, policy, GRID, 4, generator=seeded(1))
    with pytest.raises(CtcontrolError, match="std 0 and so has no likelihood ratio"):
        PolicyGradient(MonteCarloAdvantage()).signal(linear.problem, EulerMaruyama(), None, path)
