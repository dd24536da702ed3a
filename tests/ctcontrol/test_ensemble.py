"""Many policies in one rollout: every row gets its own."""

import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from ctcontrol._rollout_gradient import rollout_gradient
from ctcontrol.exact.lq import FixedLinearGaussianPolicy, LinearGaussianLaw, LinearGaussianPolicy
from tests.ctcontrol.test_rollout_gradient import GRID, Network, gain, plant
from tests.helpers import assert_close, assert_mean, normal, seeded

GAINS = ([[0.3, 0.9]], [[0.1, 0.2]], [[1.0, 0.4]])


def gains(std: float = 0.0) -> list[LinearGaussianPolicy]:
    return [LinearGaussianPolicy(K, [0.1 * j], std=std) for j, K in enumerate(GAINS)]


def networks() -> list[ct.GaussianPolicy]:
    return [ct.GaussianPolicy(Network(), ct.LearnedStd(0.2 + 0.1 * j)) for j in range(3)]


@pytest.mark.parametrize(
    "members", [[0, 0, 1, 1, 2, 2], [2, 1, 0, 0, 1, 2], [1, 1, 1, 1, 0], [2, 2], [0, 1, 2, 1, 1]]
)
@pytest.mark.parametrize("make", [gains, networks])
def test_every_row_gets_the_law_of_its_member(make: type, members: list[int]) -> None:
    policies = make()
    ensemble, n = ct.PolicyEnsemble(policies), len(members)
    t, x = torch.linspace(0, 0.9, n, dtype=torch.float64), normal(n, 2)
    law = ensemble.dist(t, x, torch.tensor(members))
    for row, j in enumerate(members):
        alone = policies[j].dist(t[row, None], x[row, None], None)
        assert_close(law.mean[row], alone.mean[0], 1e-14)
        assert_close(law.std[row], alone.std[0], 1e-14)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [3000, 20_001])
def test_every_member_has_its_own_return(threads: int, batch: int) -> None:
    """Also where members share tiles unevenly, and tiles run beside each other."""
    lq, ensemble, grid = plant(), ct.PolicyEnsemble(gains(0.2)), ct.TimeGrid.uniform(1.0, 4)
    torch.set_num_threads(threads)
    try:
        problem = ensemble.problem(lq.problem())
        run = ct.simulate(problem, ensemble, grid, batch, generator=seeded(1), store="none")
    finally:
        torch.set_num_threads(1)
    counts = run.context.bincount()
    assert int(counts.max() - counts.min()) <= 3
    for j, policy in enumerate(gains(0.2)):
        truth = lq.chain(grid.times.numpy()).expected_return(policy)
        assert_mean(run.returns[run.context == j], truth)


def test_threads_do_not_change_the_numbers() -> None:
    ensemble, grid = ct.PolicyEnsemble(networks()), ct.TimeGrid.uniform(1.0, 3)
    problem = ensemble.problem(plant().problem())

    def returns() -> Tensor:
        generator = seeded(2)
        return ct.simulate(
            problem, ensemble, grid, 40_000, generator=generator, store="none"
        ).returns

    alone = returns()
    torch.set_num_threads(4)
    try:
        assert torch.equal(returns(), alone)
    finally:
        torch.set_num_threads(1)


def test_a_joint_loss_has_a_share_of_the_gradient_of_every_member() -> None:
    policies = networks()
    ensemble = ct.PolicyEnsemble(policies)
    problem, solver = ensemble.problem(plant().problem()), ct.EulerMaruyama()
    path = ct.simulate(problem, ensemble, GRID, 30, generator=seeded(3))
    algorithm = ct.PolicyGradient(ct.MonteCarloAdvantage())
    signal = algorithm.signal(problem, solver, None, path)
    rows = path.transitions(signal=signal)
    mixed = rows[torch.randperm(len(rows), generator=seeded(4))]
    algorithm.loss(problem, solver, ensemble, mixed).loss.backward()
    joint = {name: p.grad for name, p in ensemble.member.named_parameters()}
    for j, policy in enumerate(policies):
        own = rows[rows.context == j]
        algorithm.loss(problem, solver, policy, own).loss.backward()
        for name, parameter in policy.named_parameters():
            slope = joint[name]
            assert parameter.grad is not None
            assert slope is not None
            assert_close(3 * slope[j], parameter.grad, 1e-12)


def test_the_loop_of_training_takes_it() -> None:
    """Every member improves, and comes out as a policy of its own."""
    lq, grid = plant(), ct.TimeGrid.uniform(1.0, 5)
    ensemble = ct.PolicyEnsemble(gains(0.3))
    turns = ct.improve(
        ensemble.problem(lq.problem()),
        ensemble,
        ct.PolicyGradient(ct.MonteCarloAdvantage()),
        grid,
        batch=900,
        minibatch=900 * 5,
        updater=ct.Updater.adam(ensemble, 0.05, clip_norm=1e9),
        generator=seeded(5),
    )
    for _ in range(10):
        next(turns)
    chain = lq.chain(grid.times.numpy())
    won: list[float] = []
    for before, after in zip(gains(0.3), ensemble.policies(), strict=True):
        assert isinstance(after, LinearGaussianPolicy)
        won.append(chain.expected_return(after) - chain.expected_return(before))
    assert min(won) > -0.01, "one starts near the optimum"
    assert sorted(won)[1] > 0.05


def test_the_gradient_through_a_rollout_of_all() -> None:
    lq, ensemble = plant(), ct.PolicyEnsemble(gains())
    problem = ensemble.problem(lq.problem())
    one, other = (
        rollout_gradient(problem, ensemble, GRID, 30, generator=seeded(6), method=method)
        for method in ("autograd", "adjoint")
    )
    assert one.gradient["member.gain"].shape == (3, 1, 2)
    assert_close(other.gradient["member.gain"], one.gradient["member.gain"], 1e-11)


def test_members_are_copies() -> None:
    policies = networks()
    ensemble = ct.PolicyEnsemble(policies)
    t, x = GRID.times[:-1], normal(GRID.steps, 2)
    before = [policy.dist(t, x, None).mean for policy in policies]
    for policy, same, mean in zip(policies, ensemble.policies(), before, strict=True):
        assert torch.equal(same.dist(t, x, None).mean, mean)
        with torch.no_grad():
            for parameter in policy.parameters():
                parameter.zero_()
    for same, mean in zip(ensemble.policies(), before, strict=True):
        assert torch.equal(same.dist(t, x, None).mean, mean)


def test_doors() -> None:
    def refused(match: str, *policies: ct.Policy) -> None:
        with pytest.raises(ct.CtcontrolError, match=match):
            ct.PolicyEnsemble(policies)

    refused("at least one policy, got none")
    refused("same names, shapes", gain(), LinearGaussianPolicy([[1.0]]))
    refused("differ in std", ct.GaussianPolicy(Network(), 0.1), ct.GaussianPolicy(Network(), 0.2))
    laws = [LinearGaussianLaw([[0.1 * j]]) for j in range(2)]
    refused("differ in _law", *map(FixedLinearGaussianPolicy, laws))
    refused("of the kind Policy", Network())  # type: ignore[arg-type]  # bad on purpose
    ensemble = ct.PolicyEnsemble(gains())
    with pytest.raises(ct.CtcontrolError, match="which member of the ensemble"):
        ct.simulate(plant().problem(), ensemble, GRID, 6, generator=seeded())
    known = plant().problem()
    told = ct.ControlProblem(
        known.sde, known.reward, lambda n, g: (known.initial(n, g)[0], torch.zeros(n)), 1.0
    )
    with pytest.raises(ct.CtcontrolError, match="has one already"):
        ct.simulate(ensemble.problem(told), ensemble, GRID, 6, generator=seeded())
