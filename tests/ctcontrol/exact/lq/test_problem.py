from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from ctcontrol import ControlProblem, CtcontrolError
from ctcontrol.exact.lq import (
    Constant,
    ElementwiseLinearSDE,
    LinearGaussianLaw,
    LinearGaussianPolicy,
    LinearSDE,
    LQProblem,
    Piecewise,
    Smooth,
)
from tests.ctcontrol.exact.lq.systems import random_system

GOOD: dict[str, Any] = {
    "A": np.zeros((2, 2)),
    "B": np.ones((2, 1)),
    "Q": np.eye(2),
    "R": np.eye(1),
    "G": np.eye(2),
    "volatility": 0.5,
    "horizon": 1.0,
    "initial_mean": [0.0, 1.0],
}


def plain(**changes: Any) -> LQProblem:
    return LQProblem(**(GOOD | changes))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"A": np.ones((2, 3))}, "A must be a square matrix"),
        ({"A": [[0, np.inf], [0, 0]]}, "A must be finite"),
        ({"B": np.ones((1, 2))}, r"B must be .* got shape \(1, 2\)"),
        ({"Q": [[1, 1], [0, 1]]}, "Q must be symmetric"),
        ({"Q": -np.eye(2)}, "Q must be positive semidefinite.*costs enter with a plus sign"),
        ({"R": -np.eye(1)}, "R must be positive definite"),
        ({"R": np.eye(2)}, r"R must have shape \(1, 1\)"),
        ({"G": np.diag([1.0, -1e-6])}, "G must be positive semidefinite"),
        ({"S": [[2.0], [0.0]]}, r"cost matrix \[\[Q, S\], \[Sᵀ, R\]\] must be positive semidef"),
        ({"volatility": np.ones((3, 2))}, "volatility must be a number or a matrix"),
        ({"volatility": float("nan")}, "volatility must be finite"),
        ({"initial_mean": [0.0]}, r"initial_mean must have shape \(2,\)"),
        ({"initial_covariance": -1.0}, "initial_covariance must be positive semidefinite"),
        ({"horizon": -1.0}, "horizon must be a finite number > 0, got -1.0"),
        ({"discount": -0.1}, "discount must be a finite number >= 0, got -0.1"),
        ({"temperature": float("inf")}, "temperature must be a finite number >= 0, got inf"),
    ],
)
def test_bad_problems_are_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    plain()
    with pytest.raises(CtcontrolError, match=sentence):
        plain(**changes)


def test_problems_cannot_be_changed() -> None:
    lq, A = random_system(1, 2, 1), np.zeros((2, 2))
    assert plain(A=A).A is not A
    with pytest.raises(ValueError, match="read-only"):
        lq.Q[0, 0] = 1.0
    with pytest.raises(AttributeError):
        lq.horizon = 2.0  # type: ignore[misc]  # that is the point


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drift_and_reward_are_those_of_the_matrices(
    dtype: torch.dtype, generator: torch.Generator
) -> None:
    lq = random_system(2, 3, 2)
    problem = lq.problem(dtype)
    assert isinstance(problem, ControlProblem)
    assert problem.penalty_weight == lq.temperature
    assert problem.discount == lq.discount
    x, u = torch.randn(5, 3, generator=generator), torch.randn(5, 2, generator=generator)
    t, x, u = torch.zeros(5, dtype=dtype), x.to(dtype), u.to(dtype)
    X, U = x.numpy().astype(float), u.numpy().astype(float)
    drift = problem.sde.drift(t, x, u, None)
    cost = [y @ lq.Q @ y + 2 * y @ lq.S @ v + v @ lq.R @ v for y, v in zip(X, U, strict=True)]
    assert drift.dtype == dtype
    slack: dict[str, Any] = {"atol": 1e-5 if dtype == torch.float32 else 1e-13}
    assert np.allclose(drift.numpy(), X @ lq.A.T + U @ lq.B.T, **slack)
    assert np.allclose(problem.reward.running(t, x, u, None).numpy(), -np.array(cost), **slack)
    end = -np.einsum("bi,ij,bj->b", X, lq.G, X)
    assert np.allclose(problem.reward.terminal(x, None).numpy(), end, **slack)


@pytest.mark.parametrize(
    "volatility", [0.7, np.diag([0.3, 0.9]), [[0.3, 0.4, 0.1], [0.0, 0.5, 0.2]]]
)
def test_every_kind_of_volatility_is_the_same_matrix(volatility: object) -> None:
    lq = plain(volatility=volatility)
    t, x = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    sigma = lq.problem().sde.volatility(t, x, x)
    noise = torch.eye(lq.volatility.shape[1], dtype=torch.float64)[:3]
    noise = torch.cat([noise, torch.zeros(3 - len(noise), noise.shape[1]).double()])
    expected = noise.numpy() @ lq.volatility.T
    assert np.allclose(sigma.mul(noise).numpy(), expected, atol=1e-15)
    H = torch.tensor([[1.0, 0.3], [0.3, -2.0]], dtype=torch.float64).expand(3, 2, 2)
    trace = (lq.diffusion * H[0].numpy()).sum()
    assert np.allclose(sigma.trace(H).numpy(), trace)


def test_a_multiple_of_the_identity_is_recognized() -> None:
    narrow = plain().problem().sde
    square = plain(B=0.3 * np.eye(2), R=np.eye(2)).problem().sde
    skew = plain(B=[[0.3, 0.1], [0, 0.3]], R=np.eye(2)).problem().sde
    assert isinstance(narrow, LinearSDE)
    assert isinstance(square, ElementwiseLinearSDE)
    assert isinstance(skew, LinearSDE)
    t, x = torch.zeros(4, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    assert torch.allclose(square.drift(t, x, x, None), 0.3 * x)


def test_the_start_has_the_stated_law(generator: torch.Generator) -> None:
    # One direction has no spread at all.
    covariance = np.array([[2.0, 1.0], [1.0, 0.5]])
    lq = plain(initial_covariance=covariance)
    x, context = lq.problem().initial(20_000, generator)
    assert context is None
    score = (x.mean(0).numpy() - lq.initial_mean)[0] ** 2 / (2.0 / 20_000)
    assert score < chi2.ppf(1 - 1e-6, 1)
    assert np.abs(np.cov(x.numpy().T) - covariance).max() < 0.12
    assert (x[:, 0] - 2 * (x[:, 1] - 1)).abs().max() < 1e-6
    again, _ = lq.problem().initial(20_000, torch.Generator().manual_seed(20250203))
    assert torch.equal(x, again)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_policy_and_its_law_agree(dtype: torch.dtype) -> None:
    """In either precision a node such as 0.3 or 0.7 is on its own piece."""
    nodes = np.linspace(0, 0.9, 10)
    gain = np.arange(9 * 2 * 3, dtype=float).reshape(9, 2, 3)
    for policy in (
        LinearGaussianPolicy(gain, gain[..., 0], std=[0.1, 0.2], times=nodes).to(dtype),
        LinearGaussianPolicy(gain, gain[..., 0], std=[0.1, 0.2], times=nodes, dtype=dtype),
    ):
        law, t = policy.law(), torch.as_tensor(nodes[:-1]).to(dtype)
        dist = policy.dist(t, torch.ones(9, 3, dtype=dtype), None)
        assert dist.mean.dtype == dtype
        for j, node in enumerate(nodes[:-1]):
            K, k, spread = law.at(node)
            assert np.array_equal(K, gain[j])
            assert np.allclose(dist.mean[j].detach(), k - K.sum(1))
            assert np.allclose(np.diag(dist.std[j].detach().double() ** 2), spread)


def test_what_is_trained() -> None:
    policy = LinearGaussianPolicy(np.ones((1, 2)), std=0.5)
    assert {n for n, _ in policy.named_parameters()} == {"gain", "offset"}
    learned = LinearGaussianPolicy(np.ones((1, 2)), std=0.5, learn_std=True)
    assert {n for n, _ in learned.named_parameters()} == {"gain", "offset", "log_std"}
    assert (
        not LinearGaussianPolicy(np.ones((1, 2)))
        .dist(torch.zeros(3), torch.ones(3, 2).double(), None)
        .std.any()
    )
    reloaded = LinearGaussianPolicy(np.zeros((1, 2)))
    reloaded.load_state_dict(policy.state_dict())
    assert torch.equal(reloaded.gain, policy.gain)
    assert torch.equal(reloaded.std, policy.std)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"gain": [1.0]}, "gain must have 2 axes"),
        ({"gain": np.ones((1, 2)), "times": [0, 1]}, "gain must have 3 axes"),
        ({"gain": np.ones((2, 1, 2)), "times": [0, 1]}, "one row for each of the 1 pieces"),
        ({"gain": np.ones((1, 1, 2)), "times": [0, 0]}, "strictly increasing"),
        ({"gain": np.ones((1, 2)), "offset": [1, 2]}, r"offset must have shape \(1,\)"),
        ({"gain": np.ones((1, 2)), "std": -0.1}, r"std must be >= 0, got \[-0.1\]"),
        ({"gain": np.ones((1, 2)), "std": 0, "learn_std": True}, "std must be > 0 to be learned"),
        ({"gain": np.ones((1, 2)), "std": [1, 2, 3]}, r"std must have shape \(1,\)"),
    ],
)
def test_bad_policies_are_refused_in_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CtcontrolError, match=sentence):
        LinearGaussianPolicy(**arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"gain": [1.0, 2.0]}, "gain must be a matrix"),
        ({"gain": np.ones((2, 1)), "offset": [1.0]}, r"offset must have shape \(2,\)"),
        ({"gain": np.ones((2, 1)), "covariance": -1.0}, "covariance must be positive semidef"),
        ({"gain": np.ones((2, 1)), "covariance": [[1, 2], [3, 4]]}, "covariance must be symmetric"),
    ],
)
def test_bad_laws_are_refused_in_a_sentence(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CtcontrolError, match=sentence):
        LinearGaussianLaw(**arguments)


def test_schedules() -> None:
    steps = Piecewise(np.array([0.0, 1.0, 2.0]), np.array([10.0, 20.0]))
    assert [float(steps(t)) for t in (-1.0, 0.0, 0.9, 1.0, 2.0, 3.0)] == [10, 10, 10, 20, 20, 20]
    assert steps.jumps == (1.0,)
    assert float(steps.within(0.0, 1.0)(1.0)) == 10  # the limit from the left
    smooth = Smooth(lambda t: np.array([t]))
    assert smooth(0.5) == 0.5
    assert smooth.jumps == Constant(np.ones(2)).jumps == ()
