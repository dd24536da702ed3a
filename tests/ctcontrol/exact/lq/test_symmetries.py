"""Identities and symmetries on wider systems than elsewhere: up to six states, far from normal."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ctcontrol import NoiseStream, TimeGrid, Trajectory, simulate
from ctcontrol.exact.lq import (
    Array,
    FixedLinearGaussianPolicy,
    LinearGaussianLaw,
    LQProblem,
    riccati_by_hamiltonian,
    solve_riccati,
)
from tests.ctcontrol.exact.lq.systems import random_law, random_system, standard_normal_nodes
from tests.helpers import seeded

Case = tuple[LQProblem, LinearGaussianLaw, LinearGaussianLaw]


@st.composite
def wide(draw: st.DrawFn) -> Case:
    """One to six states, Q of any rank, noise with more or fewer sources, and two policies.

    Either A has a growth rate from −2 to 1, or it is a triangle with one eigenvalue and large
    entries above it, as far from normal as unstable systems come.
    """
    d, m, seed = draw(st.integers(1, 6)), draw(st.integers(1, 2)), draw(st.integers(0, 10_000))
    rng, growth = np.random.default_rng(seed), draw(st.floats(-2, 1))
    if draw(st.booleans()):
        pull = growth * np.eye(d) + 3 * np.triu(rng.normal(size=(d, d)), 1)
    else:
        free = rng.normal(size=(d, d)) / np.sqrt(d)
        pull = free + (growth - np.linalg.eigvals(free).real.max()) * np.eye(d)
    root = rng.normal(size=(d, draw(st.integers(0, d))))
    lq = random_system(
        seed,
        d,
        m,
        A=pull,
        Q=root @ root.T,
        S=np.zeros((d, m)),
        volatility=0.5 * rng.normal(size=(d, draw(st.integers(1, d + 1)))),
        discount=draw(st.sampled_from([0.0, 0.5])),
        temperature=draw(st.sampled_from([0.0, 0.4])),
    )
    return lq, random_law(seed, lq), random_law(seed + 1, lq)


def parts(lq: LQProblem) -> dict[str, Any]:
    names = "A B Q R G S volatility horizon initial_mean initial_covariance discount temperature"
    return {name: getattr(lq, name) for name in names.split()}


def size(*numbers: float) -> float:
    return max(1.0, *map(abs, numbers))


@settings(max_examples=8)
@given(wide(), st.floats(0, 1))
def test_identities(case: Case, share: float) -> None:
    lq, law, other = case
    before, after = lq.expected_return(law), lq.expected_return(other)
    gap = after - before - lq.performance_difference(law, other)
    assert abs(gap) < 1e-9 * size(before, after)
    assert lq.optimal_return() >= max(before, after) - 1e-9 * size(before, after)

    t, x = share * lq.horizon, lq.initial_mean
    K, k, covariance = law.at(t)
    nodes, weights = standard_normal_nodes(lq.actions)
    actions = k - K @ x + nodes @ np.linalg.cholesky(covariance).T
    q = lq.advantage_rate(law)(t, np.tile(x, (len(nodes), 1)), actions)
    value = float(lq.value(law).function.at(0.0)(x))
    assert abs(weights @ q + lq.entropy_rate(covariance)) < 1e-9 * size(value, np.abs(q).max())


@settings(max_examples=8)
@given(wide(), st.integers(0, 1000))
def test_turning_the_axes_changes_nothing(case: Case, seed: int) -> None:
    lq, law, other = case
    rng = np.random.default_rng(seed)
    U, W = (np.linalg.qr(rng.normal(size=(n, n)))[0] for n in (lq.states, lq.actions))
    old = parts(lq)
    new: dict[str, Any] = old | {
        "A": U @ lq.A @ U.T,
        "B": U @ lq.B @ W.T,
        "Q": _symmetric(U @ lq.Q @ U.T),
        "R": _symmetric(W @ lq.R @ W.T),
        "G": _symmetric(U @ lq.G @ U.T),
        "S": U @ lq.S @ W.T,
        "volatility": U @ lq.volatility,
        "initial_mean": U @ lq.initial_mean,
        "initial_covariance": _symmetric(U @ lq.initial_covariance @ U.T),
    }
    turned = LQProblem(**new)

    def turn(policy: LinearGaussianLaw) -> LinearGaussianLaw:
        K, k, covariance = policy.at(0.0)
        return LinearGaussianLaw(W @ K @ U.T, W @ k, _symmetric(W @ covariance @ W.T))

    _same(lq.optimal_return(), turned.optimal_return())
    _same(lq.expected_return(law), turned.expected_return(turn(law)))
    _same(
        lq.performance_difference(law, other),
        turned.performance_difference(turn(law), turn(other)),
        size(lq.expected_return(law), lq.expected_return(other)),
    )
    gradient, image = lq.gradient(law), turned.gradient(turn(law))
    scale = size(float(np.abs(gradient.gain).max()), lq.expected_return(law))
    assert np.abs(W @ gradient.gain @ U.T - image.gain).max() < 1e-9 * scale
    x, u = rng.normal(size=(4, lq.states)), rng.normal(size=(4, lq.actions))
    q = lq.advantage_rate(law)(0.3, x, u)
    image_q = turned.advantage_rate(turn(law))(0.3, x @ U.T, u @ W.T)
    assert np.abs(q - image_q).max() < 1e-9 * size(np.abs(q).max(), lq.expected_return(law))


@settings(max_examples=8)
@given(wide(), st.floats(0.2, 5.0))
def test_the_unit_of_time_changes_nothing_but_rates(case: Case, c: float) -> None:
    """With time t/c, everything per unit of time is multiplied by c, σ by √c."""
    lq, law, _ = case
    old = parts(lq)
    faster: dict[str, Any] = {
        name: c * old[name] for name in ("A", "B", "Q", "R", "S", "discount", "temperature")
    }
    faster |= {"volatility": np.sqrt(c) * lq.volatility, "horizon": lq.horizon / c}
    scaled = LQProblem(**(old | faster))
    _same(lq.optimal_return(), scaled.optimal_return())
    _same(lq.expected_return(law), scaled.expected_return(law))
    x, u = np.ones((1, lq.states)), np.ones((1, lq.actions))
    q = c * lq.advantage_rate(law)(0.3, x, u)
    again = scaled.advantage_rate(law)(0.3 / c, x, u)
    assert np.abs(q - again).max() < 1e-9 * size(np.abs(q).max(), lq.expected_return(law))


def test_stiff_and_large_systems_agree_with_the_hamiltonian_to_ten_digits() -> None:
    def hamiltonian(system: dict[str, Any], end: Array, remaining: float, pieces: int) -> Array:
        for _ in range(pieces):
            end = riccati_by_hamiltonian(**system, G=end, remaining=remaining / pieces)
        return end

    rng, one = np.random.default_rng(0), np.eye(50)
    A = rng.normal(size=(50, 50)) / np.sqrt(50)
    large: dict[str, Any] = {"A": A, "B": rng.normal(size=(50, 5)), "Q": one, "R": np.eye(5)}
    stiff: list[dict[str, Any]] = [
        {"A": [[-k, 1.0], [0.0, -1.0]], "B": np.ones((2, 1)), "Q": np.eye(2), "R": [[0.1]]}
        for k in (100.0, 1_000.0)
    ]
    for system, rate in ((large, 1.0), (stiff[0], 100.0), (stiff[1], 1_000.0)):
        end = np.eye(len(system["A"]))
        P = solve_riccati(**system, G=end, horizon=1.0)
        for t in (0.0, 0.37, 0.9):
            pieces = max(1, round(rate * (1 - t)))
            exact = hamiltonian(system, end, 1 - t, pieces)
            assert np.abs(P(t) - exact).max() < 1e-10 * np.abs(exact).max()


@dataclass(eq=False)
class Listed(NoiseStream):
    """Increments from a table, one entry a step."""

    table: Tensor
    step: int = field(default=0)

    def increment(self, t0: float, t1: float, out: Tensor) -> Tensor:
        self.step += 1
        return out.copy_(self.table[self.step - 1])


@pytest.mark.parametrize("seed", range(3))
def test_rows_may_be_permuted_and_numbers_be_single(seed: int) -> None:
    lq = random_system(seed, 4, 2, temperature=0.0)
    law = FixedLinearGaussianPolicy(LinearGaussianLaw(random_law(seed, lq).gain))
    start = torch.randn(32, 4, generator=seeded(seed), dtype=torch.float64)
    noise = 0.2 * torch.randn(25, 32, 5, generator=seeded(seed + 1), dtype=torch.float64)

    def run(order: Tensor, dtype: torch.dtype = torch.float64) -> Trajectory:
        problem = lq.problem(dtype)
        parts = {name: getattr(problem, name) for name in ("sde", "reward", "horizon", "discount")}
        problem = type(problem)(initial=lambda n, g: (start[order].to(dtype), None), **parts)
        source = Listed(noise[:, order])
        grid = TimeGrid.uniform(1.0, 25)
        return simulate(problem, law, grid, 32, generator=seeded(), noise=source)

    straight = torch.arange(32)
    order = torch.randperm(32, generator=seeded(seed))
    plain, mixed, single = run(straight), run(order), run(straight, torch.float32)
    assert torch.allclose(plain.returns()[order], mixed.returns(), rtol=1e-12)
    assert torch.allclose(plain.states[:, order], mixed.states, rtol=1e-12, atol=1e-12)
    assert single.states.dtype == torch.float32
    assert torch.allclose(plain.returns(), single.returns().double(), rtol=1e-4, atol=1e-4)


def _symmetric(matrix: Array) -> Array:
    return (matrix + matrix.T) / 2


def _same(first: float, second: float, scale: float = 1.0) -> None:
    assert abs(first - second) < 1e-9 * size(first, scale)
