"""Riccati equations of finite-horizon linear-quadratic control."""

from collections.abc import Callable

import numpy as np
from scipy.linalg import cho_factor, cho_solve, expm

from ctcontrol._checks import CtcontrolError, check_nonnegative, check_positive
from ctcontrol.exact.lq._arrays import Array, Numbers, as_array, as_definite, as_symmetric
from ctcontrol.exact.lq._integrate import integrate

Coefficients = tuple[Array, Array, Array, Array, Array, Array]


def solve_riccati(
    A: Numbers,
    B: Numbers,
    Q: Numbers,
    R: Numbers,
    G: Numbers,
    horizon: float,
    S: Numbers | None = None,
    discount: float = 0.0,
) -> Callable[[float | Array], Array]:
    """P(t) of the optimal value V(t, x) = −xᵀP(t)x − const(t), by an order-8 integrator.

    −Ṗ = Q + AᵀP + PA − ρP − (PB + S) R⁻¹ (PB + S)ᵀ,  P(T) = G.

    The optimal action is u* = −R⁻¹(BᵀP + Sᵀ)x. (Anderson and Moore, Optimal Control, ch. 2;
    docs/theory, linear-quadratic problems.) Q and G need only be symmetric: an indefinite
    problem may have a finite escape time, which is found and named.

    Args:
        A: (d, d), drift per unit of state, per unit of time.
        B: (d, m), drift per unit of action, per unit of time.
        Q: (d, d) symmetric, cost per unit of time.
        R: (m, m) symmetric positive definite, cost per unit of time.
        G: (d, d) symmetric, cost at the horizon.
        horizon: T > 0.
        S: (d, m), cross cost 2xᵀSu per unit of time; 0 by default.
        discount: ρ ≥ 0, per unit of time.

    Returns:
        t ↦ P(t): (d, d) for a number, (len(t), d, d) for a vector of times in [0, T].

    Raises:
        CtcontrolError: matrices that do not fit, or a finite escape time in [0, T].
    """
    A_, B_, Q_, R_, G_, S_ = _read(A, B, Q, R, G, S)
    check_positive("horizon", horizon)
    shifted = A_ - 0.5 * check_nonnegative("discount", discount) * np.eye(len(A_))
    d, factor = len(A_), cho_factor(R_)

    def right_hand_side(t: float, flat: Array) -> Array:
        P = flat.reshape(d, d)
        PA = P @ shifted
        cross = P @ B_ + S_
        return -(Q_ + PA + PA.T - cross @ cho_solve(factor, cross.T)).ravel()

    solution = integrate(
        lambda t0, t1: right_hand_side,
        G_.ravel(),
        np.array([0.0, horizon]),
        backward=True,
        what="the Riccati equation",
    )

    def at(t: float | Array) -> Array:
        P = solution(t).reshape(*np.shape(t), d, d)
        return (P + np.swapaxes(P, -1, -2)) / 2

    return at


def riccati_by_hamiltonian(
    A: Numbers,
    B: Numbers,
    Q: Numbers,
    R: Numbers,
    G: Numbers,
    remaining: float,
    S: Numbers | None = None,
    discount: float = 0.0,
) -> Array:
    """P(T − remaining) of `solve_riccati`, by one matrix exponential.

    P = Y X⁻¹ with (X, Y) = exp(−remaining · H) (I, G) and the Hamiltonian matrix
    H = [[Ã, −BR⁻¹Bᵀ], [−Q̃, −Ãᵀ]],  Ã = A − ρ/2 − BR⁻¹Sᵀ,  Q̃ = Q − SR⁻¹Sᵀ.

    An independent route to the same P, exact up to rounding while `remaining` times the spread
    of the eigenvalues of H stays below about 15; beyond that X is ill-conditioned, so use
    `solve_riccati`. Arguments and shapes as there; `remaining` is T − t ≥ 0.

    Raises:
        CtcontrolError: matrices that do not fit, or X too ill-conditioned to invert.
    """
    A_, B_, Q_, R_, G_, S_ = _read(A, B, Q, R, G, S)
    d, factor = len(A_), cho_factor(R_)
    rate = check_nonnegative("discount", discount)
    free = A_ - 0.5 * rate * np.eye(d) - B_ @ cho_solve(factor, S_.T)
    cost = Q_ - S_ @ cho_solve(factor, S_.T)
    hamiltonian = np.block([[free, -B_ @ cho_solve(factor, B_.T)], [-cost, -free.T]])
    flow = expm(-check_nonnegative("remaining", remaining) * hamiltonian)
    XY = flow @ np.vstack([np.eye(d), G_])
    X, Y = XY[:d], XY[d:]
    if not np.isfinite(XY).all() or np.linalg.cond(X) > 1e10:
        raise CtcontrolError(
            f"the exponential of the Hamiltonian over {remaining:g} units of time is too "
            "ill-conditioned to invert; use solve_riccati"
        )
    P = np.linalg.solve(X.T, Y.T).T
    return (P + P.T) / 2


def _read(
    A: Numbers, B: Numbers, Q: Numbers, R: Numbers, G: Numbers, S: Numbers | None
) -> Coefficients:
    """The six matrices, checked against each other."""
    A_, B_ = as_array("A", A), as_array("B", B)
    if A_.ndim != 2 or A_.shape[0] != A_.shape[1]:
        raise CtcontrolError(f"A must be a square matrix (states, states), got shape {A_.shape}")
    d = len(A_)
    if B_.ndim != 2 or len(B_) != d:
        raise CtcontrolError(
            f"B must be a matrix (states, actions) with {d} rows like A, got shape {B_.shape}"
        )
    m = B_.shape[1]
    S_ = np.zeros((d, m)) if S is None else as_array("S", S, (d, m))
    return A_, B_, as_symmetric("Q", Q, d), as_definite("R", R, m), as_symmetric("G", G, d), S_
