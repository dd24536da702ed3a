from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import solve_continuous_are

from ctcontrol import CtcontrolError
from ctcontrol.exact.lq import Array, LQProblem, riccati_by_hamiltonian, solve_riccati
from tests.ctcontrol.exact.lq.systems import random_system, systems


def arguments(lq: LQProblem) -> tuple[Array, Array, Array, Array, Array]:
    return lq.A, lq.B, lq.Q, lq.R, lq.G


def test_scalar_integrator_is_a_hyperbolic_tangent() -> None:
    # ẋ = u, cost x² + u²: P = tanh(T − t), and tanh(T − t + artanh g) from P(T) = g.
    one = np.eye(1)
    t = np.linspace(0, 3, 31)
    for g in (0.0, 0.4):
        P = solve_riccati(0 * one, one, one, one, g * one, 3.0)(t)
        assert np.abs(P[:, 0, 0] - np.tanh(3 - t + np.arctanh(g))).max() < 1e-11


def test_scalar_problem_with_every_term_in_closed_form() -> None:
    # −Ṗ = q + 2ãP − (bP + s)²/r has the roots P± of its right-hand side, and
    # (P − P₊)/(P − P₋) decays like e^{−(b²/r)(P₊ − P₋)(T − t)}.
    a, b, q, r, s, g, rho, T = 0.7, 1.3, 0.9, 0.6, 0.25, 0.2, 0.5, 1.7
    slope = a - rho / 2 - b * s / r
    gap = np.sqrt(slope**2 + b**2 / r * (q - s**2 / r))
    plus, minus = ((slope + sign * gap) * r / b**2 for sign in (1, -1))
    t = np.linspace(0, T, 9)
    ratio = (g - plus) / (g - minus) * np.exp(-(b**2) / r * (plus - minus) * (T - t))
    exact = (plus - minus * ratio) / (1 - ratio)
    P = solve_riccati([[a]], [[b]], [[q]], [[r]], [[g]], T, [[s]], rho)(t)[:, 0, 0]
    assert np.abs(P - exact).max() < 1e-11


@given(systems(), st.floats(0, 1))
def test_both_routes_give_the_same_solution(lq: LQProblem, share: float) -> None:
    t = share * lq.horizon
    P = solve_riccati(*arguments(lq), lq.horizon, lq.S, lq.discount)(t)
    other = riccati_by_hamiltonian(*arguments(lq), lq.horizon - t, lq.S, lq.discount)
    assert np.abs(P - other).max() <= 1e-8 * max(1, np.abs(P).max())
    assert np.array_equal(P, P.T)
    assert np.linalg.eigvalsh(P)[0] > -1e-9


def test_long_horizons_reach_the_algebraic_equation() -> None:
    lq = random_system(3, 3, 2)
    P = solve_riccati(*arguments(lq), 60.0, lq.S, lq.discount)(0.0)
    shifted = lq.A - lq.discount / 2 * np.eye(3)
    assert np.abs(P - solve_continuous_are(shifted, lq.B, lq.Q, lq.R, s=lq.S)).max() < 1e-9


def test_a_finite_escape_time_is_found_and_named() -> None:
    # −Ṗ = −1 − P² from P(T) = 0: P = −tan(T − t), which escapes π/2 before T.
    one = np.eye(1)
    finite = solve_riccati(0 * one, one, -one, one, 0 * one, 1.5)
    assert abs(finite(0.0)[0, 0] + np.tan(1.5)) < 1e-9
    with pytest.raises(CtcontrolError, match=r"near t = 0\.4292.*1\.5708 away"):
        solve_riccati(0 * one, one, -one, one, 0 * one, 2.0)


def test_an_ill_conditioned_exponential_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="use solve_riccati"):
        riccati_by_hamiltonian(np.diag([30.0, -1]), np.eye(2), *[np.eye(2)] * 3, remaining=9.0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"A": np.ones((2, 3))}, r"A must be a square matrix .* got shape \(2, 3\)"),
        ({"B": np.ones((3, 1))}, "B must be a matrix .* with 2 rows like A"),
        ({"Q": [[1, 2], [0, 1]]}, "Q must be symmetric.* pass"),
        ({"R": [[0.0]]}, "R must be positive definite.* add a small multiple"),
        ({"G": np.eye(3)}, r"G must have shape \(2, 2\)"),
        ({"S": np.ones((1, 2))}, r"S must have shape \(2, 1\)"),
        ({"A": [[np.nan, 0], [0, 0]]}, "A must be finite"),
        ({"A": "no"}, "A must be an array of real numbers"),
        ({"horizon": 0.0}, "horizon must be a finite number > 0, got 0.0"),
        ({"discount": -1.0}, "discount must be a finite number >= 0, got -1.0"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {
        "A": np.eye(2),
        "B": np.ones((2, 1)),
        "Q": np.eye(2),
        "R": np.eye(1),
        "G": np.eye(2),
    }
    with pytest.raises(CtcontrolError, match=sentence):
        solve_riccati(**(good | {"horizon": 1.0} | changes))
