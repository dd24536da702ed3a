"""Gradients through a rollout: one number by four ways, and the exact one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol._rollout_gradient import Method
from ctcontrol.exact.lq import LinearGaussianPolicy, LQProblem
from tests.helpers import assert_close, seeded

GRID = ct.TimeGrid.from_times([0.0, 0.05, 0.2, 0.3, 0.45, 0.6, 0.7, 0.85, 0.9, 1.0])
OTHERS: tuple[Method, ...] = ("adjoint", "checkpoint", "forward")
METHODS: tuple[Method, ...] = ("autograd", *OTHERS)


def plant(temperature: float = 0.0) -> LQProblem:
    """Two coupled states, one action, discounted, from a random start."""
    return LQProblem(
        A=[[0.2, 0.7], [-0.5, -0.3]],
        B=[[0.4], [1.0]],
        Q=[[1.0, 0.2], [0.2, 0.6]],
        R=[[0.5]],
        S=[[0.1], [-0.2]],
        G=[[0.7, 0.1], [0.1, 0.4]],
        volatility=[[0.6, 0.0], [0.2, 0.5]],
        horizon=1.0,
        initial_mean=[0.8, -0.5],
        initial_covariance=0.2,
        discount=0.3,
        temperature=temperature,
    )


class Network(nn.Module):
    """Two hidden units that see time and state."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.layers(torch.cat([x, t[:, None]], 1))


def gain(std: float = 0.0, *, learn_std: bool = False) -> LinearGaussianPolicy:
    return LinearGaussianPolicy([[0.3, 0.9]], [0.2], std=std, learn_std=learn_std)


def kl(problem: ct.ControlProblem) -> ct.ControlProblem:
    regularizer = ct.PathKL(gain(), 0.4)
    return ct.ControlProblem(
        problem.sde, problem.reward, problem.initial, 1.0, problem.discount, regularizer
    )


def only_the_end(problem: ct.ControlProblem) -> ct.ControlProblem:
    reward = ct.TerminalReward(lambda x, context: x.sin().sum(1))
    return ct.ControlProblem(problem.sde, reward, problem.initial, 1.0, 0.3)


def one_state() -> tuple[ct.ControlProblem, ct.Policy]:
    """From where it stands the offset is zero, and its derivative is not."""
    lq = LQProblem(
        A=[[-0.5]], B=[[1.0]], Q=[[1.0]], R=[[1.0]], G=[[1.0]], volatility=0.5, horizon=1.0,
        initial_mean=[1.0],
    )  # fmt: skip
    return lq.problem(), LinearGaussianPolicy([[0.5]])


def from_rows(problem: ct.ControlProblem) -> ct.ControlProblem:
    """First states that lie in memory by rows, where steps leave them by columns."""
    start = lambda n, generator: (torch.randn(n, 2, generator=generator).double(), None)
    return ct.ControlProblem(problem.sde, problem.reward, start, 1.0)


CASES: dict[str, Callable[[], tuple[ct.ControlProblem, ct.Policy]]] = {
    "one state": one_state,
    "gain": lambda: (plant().problem(), gain()),
    "rows": lambda: (from_rows(plant().problem()), gain()),
    "gain that explores": lambda: (plant().problem(), gain(0.3)),
    "learned std, entropy": lambda: (plant(0.2).problem(), gain(0.3, learn_std=True)),
    "network": lambda: (plant().problem(), ct.GaussianPolicy(Network(), 0.2)),
    "network, path KL": lambda: (kl(plant().problem()), ct.GaussianPolicy(Network())),
    "terminal reward": lambda: (only_the_end(plant().problem()), ct.GaussianPolicy(Network())),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", OTHERS)
def test_all_methods_differentiate_the_same_paths(case: str, method: Method) -> None:
    problem, policy = CASES[case]()
    first, other = (
        ct.rollout_gradient(problem, policy, GRID, 60, generator=seeded(3), method=m)
        for m in ("autograd", method)
    )
    assert abs(other.value.mean - first.value.mean) < 1e-13
    assert first.gradient.keys() == {n for n, p in policy.named_parameters() if p.requires_grad}
    for name, slope in first.gradient.items():
        assert bool(slope.any())
        assert_close(other.gradient[name], slope, 1e-11)


@pytest.mark.parametrize("case", ["learned std, entropy", "one state"])
@pytest.mark.parametrize("method", METHODS)
def test_it_is_the_derivative_of_what_simulate_returns(case: str, method: Method) -> None:
    problem, policy = CASES[case]()

    def mean(shift: float, parameter: Tensor) -> float:
        with torch.no_grad():
            parameter.view(-1)[0] += shift
            run = ct.simulate(problem, policy, GRID, 60, generator=seeded(3), store="none")
            parameter.view(-1)[0] -= shift
        return float(run.returns.mean())

    found = ct.rollout_gradient(problem, policy, GRID, 60, generator=seeded(3), method=method)
    for name, parameter in policy.named_parameters():
        numeric = (mean(1e-5, parameter) - mean(-1e-5, parameter)) / 2e-5
        assert abs(float(found.gradient[name].view(-1)[0]) - numeric) < 1e-6 * abs(numeric)
        assert parameter.grad is None


@pytest.mark.parametrize("std", [0.0, 0.5])
def test_its_mean_is_the_exact_gradient_of_the_chain(std: float) -> None:
    """A held action that explores moves the state, so K has another gradient than for std 0."""
    lq, policy = plant(), gain(std)
    exact = lq.chain(GRID.times.numpy()).gradient(policy)
    ways: list[tuple[Method, int | None]] = [("forward", None), ("adjoint", 20)]
    for method, groups in ways:
        found = ct.rollout_gradient(
            lq.problem(), policy, GRID, 4000, generator=seeded(1), method=method, groups=groups
        )
        assert found.stderr is not None
        for name, truth in (("gain", exact.gain), ("offset", exact.offset)):
            gap = (found.gradient[name] - torch.as_tensor(truth)).abs()
            assert bool((gap < 5 * found.stderr[name]).all())
            assert bool((found.stderr[name] < 0.05).all())


def test_error_bars_of_groups_and_of_paths_agree() -> None:
    problem, policy = CASES["gain"]()

    def bar(method: Method, groups: int | None) -> Tensor:
        found = ct.rollout_gradient(
            problem, policy, GRID, 4000, generator=seeded(2), method=method, groups=groups
        )
        assert found.stderr is not None
        return found.stderr["gain"]

    ratio = bar("autograd", 100) / bar("forward", None)
    assert bool(((ratio - 1).abs() < 5 / 200**0.5).all())
    whole = ct.rollout_gradient(problem, policy, GRID, 8, generator=seeded(2))
    assert whole.stderr is None


@pytest.mark.parametrize("method", ["autograd", "adjoint"])
def test_many_paths_run_in_the_tiles_of_simulate(method: Method) -> None:
    problem, policy = CASES["gain that explores"]()
    grid = ct.TimeGrid.uniform(1.0, 3)
    found = ct.rollout_gradient(problem, policy, grid, 20_000, generator=seeded(5), method=method)
    run = ct.simulate(problem, policy, grid, 20_000, generator=seeded(5), store="none")
    assert abs(found.value.mean - ct.Estimate.of(run.returns).mean) < 1e-12
    assert found.stderr is not None


@pytest.mark.parametrize("noise", ["path", "mirrored", "sobol", "coarse"])
@pytest.mark.parametrize("method", METHODS)
def test_every_noise(noise: str, method: Method) -> None:
    problem, policy = CASES["network"]()
    source = {
        "path": lambda: ct.BrownianPath(1.0, (64, 2), seed=1),
        "mirrored": lambda: ct.Antithetic(1),
        "sobol": lambda: ct.Sobol(1, scrambles=4),
        "coarse": lambda: ct.Coarsened(ct.WhiteNoise(1), GRID.refine(2)),
    }[noise]

    def gradient(method: Method) -> Tensor:
        found = ct.rollout_gradient(
            problem, policy, GRID, 64, generator=seeded(3), method=method, noise=source()
        )
        return found.gradient["mean.layers.0.weight"]

    ordered = noise == "coarse" or (noise == "sobol" and method != "forward")
    if ordered and method != "autograd":
        with pytest.raises(ct.CtcontrolError, match="in order, once"):
            gradient(method)
    else:
        assert_close(gradient(method), gradient("autograd"), 1e-11)


@pytest.mark.parametrize("method", METHODS)
def test_the_generator_goes_on(method: Method) -> None:
    """Else the next rollout would start from the numbers that the actions of this one used."""
    problem, policy = CASES["gain that explores"]()
    generator, reference = seeded(4), seeded(4)
    ct.rollout_gradient(problem, policy, GRID, 16, generator=generator, method=method)
    ct.simulate(problem, policy, GRID, 16, generator=reference)
    assert torch.equal(generator.get_state(), reference.get_state())


def refused(policy: ct.Policy, match: str, **options: object) -> None:
    with pytest.raises((ct.CtcontrolError, ct.NumericalError), match=match):
        ct.rollout_gradient(plant().problem(), policy, GRID, 8, generator=seeded(), **options)  # type: ignore[arg-type]  # bad on purpose


def test_doors() -> None:
    refused(gain(), "autograd, adjoint, checkpoint, forward, got 'bptt'", method="bptt")
    refused(gain(), "8 paths cannot be cut in 9 groups", groups=9)
    refused(gain().requires_grad_(False), "no trainable parameters")
    network = Network()
    blind = ct.GaussianPolicy(lambda t, x, context: network(t, x, context).detach())
    blind.mean_ = network
    for method in ("autograd", "adjoint"):
        refused(blind, "does not depend on the parameters", method=method)


class Dropout(nn.Module):
    """Another action at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return nn.functional.dropout(self.network(t, x, context), 0.5) * 10


def test_a_step_that_cannot_be_made_again_is_noticed() -> None:
    refused(ct.GaussianPolicy(Dropout()), "made again", method="adjoint")
    refused(ct.GaussianPolicy(Dropout()), "made again", method="checkpoint")
