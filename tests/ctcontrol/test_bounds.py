"""The bounds hold, are not idle, and shrink at the right rate."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

import ctcontrol as ct
from tests.helpers import seeded, slope
from tests.problems import Isotropic, constant

PULL, SIGMA, DISCOUNT, START = 0.9, 0.7, 0.5, 1.2
HORIZON = 2.0


def _return(shift: float, horizon: float) -> float:
    """E∫₀ᵀ e^{−ρt} cos X dt for dX = (−kX + shift)dt + σdW."""

    def rate(t: float) -> float:
        mean = shift / PULL + (START - shift / PULL) * math.exp(-PULL * t)
        spread = SIGMA**2 * -math.expm1(-2 * PULL * t) / (2 * PULL)
        return math.exp(-DISCOUNT * t - spread / 2) * math.cos(mean)

    return quad(rate, 0, horizon, epsabs=1e-12)[0]


def _slope_of_value(t: float, x: np.ndarray, horizon: float) -> np.ndarray:
    """V_x(t, x) under shift 0, at many points, by the trapezoidal rule."""
    u = np.linspace(0, horizon - t, 601)
    fade = np.exp(-PULL * u)
    spread = SIGMA**2 * (1 - fade**2) / (2 * PULL)
    rates = -np.exp(-DISCOUNT * u - spread / 2) * fade * np.sin(np.outer(x, fade))
    return np.trapezoid(rates, u, axis=1)


def _surrogate_gain(shift: float, horizon: float) -> tuple[float, float]:
    """(L − J, ‖V_x‖_∞): E∫e^{−ρt} shift·V_x(t, X_t)dt along shift 0, by Gauss–Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    times, rates, largest = np.linspace(0, horizon, 101), [], 0.0
    for t in times:
        spread = math.sqrt(SIGMA**2 * -math.expm1(-2 * PULL * t) / (2 * PULL))
        tail = max(horizon - t, 1e-9)
        at = _slope_of_value(0, START * math.exp(-PULL * t) + spread * nodes, tail)
        rates.append(math.exp(-DISCOUNT * t) * shift * float(weights @ at))
        wide = _slope_of_value(0, np.linspace(-4, 4, 201), tail)
        largest = max(largest, float(np.abs(wide).max()))
    return float(np.trapezoid(rates, times)), largest


@pytest.mark.parametrize("horizon", [HORIZON, math.inf])
def test_the_error_of_the_surrogate_is_below_the_bounds(horizon: float) -> None:
    """Reward cos x, drift shifted: both bounds hold at ratios of a few, and the error is O(δ²)."""
    long = 25.0 if math.isinf(horizon) else horizon
    shifts, errors = [0.4, 0.2, 0.1], []
    for shift in shifts:
        gain, steepest = _surrogate_gain(shift, long)
        error = abs(_return(shift, long) - _return(0.0, long) - gain)
        k = 0.5 * (shift / SIGMA) ** 2
        settings = {"discount": DISCOUNT, "horizon": horizon}
        root = ct.SurrogateBound.root(shift * steepest, **settings).error(k)
        linear = ct.SurrogateBound.linear(SIGMA * steepest, **settings).error(k)
        assert error < root < 12 * error
        # |A| = δ|V_x|, so here both are the same number
        assert math.isclose(root, linear, rel_tol=1e-9)
        errors.append(error)
    assert abs(slope(shifts, errors) - 2) < 0.15


def test_the_constants() -> None:
    """√π/2 ρ^{−3/2} without horizon, ⅔T^{3/2} without discount, and the integral in between."""
    bound = ct.SurrogateBound.root(1.0, discount=0.5)
    assert math.isclose(bound.error(2.0), 2 * math.sqrt(math.pi) / 2 * 0.5**-1.5)
    bound = ct.SurrogateBound.linear(3.0, horizon=4.0, curvature=0.7)
    assert math.isclose(bound.error(0.25), 2 / 3 * 8 * (2 * 3 * 0.25 + 0.7 * math.sqrt(2) / 8))
    integral = quad(lambda t: math.exp(-0.5 * t) * math.sqrt(t), 0, 4.0)[0]
    bound = ct.SurrogateBound.linear(1.0, discount=0.5, horizon=4.0)
    assert math.isclose(bound.error(1.0), 2 * integral, rel_tol=1e-7)
    # linear in KL against its square root
    assert math.isclose(bound.error(0.02) / bound.error(0.01), 2)
    root = ct.SurrogateBound.root(1.0, discount=0.5, horizon=4.0)
    assert math.isclose(root.error(0.02) / root.error(0.01), math.sqrt(2))


def _problem() -> ct.ControlProblem:
    start = torch.full((1, 1), START, dtype=torch.float64)
    return ct.ControlProblem(
        Isotropic(constant(-PULL), constant(1.0), constant(SIGMA)),
        Cosine(),
        lambda n, g: (start.expand(n, 1), None),
        HORIZON,
        DISCOUNT,
    )


class Cosine(ct.Reward):
    """r = cos x."""

    def running(self, t: ct.Time, x: ct.State, a: ct.Action, context: object) -> ct.Scalar:
        return x[:, 0].cos()

    def terminal(self, x: ct.State, context: object) -> ct.Scalar:
        return 0 * x[:, 0]


class CosineValue(ct.Value):
    """V of shift 0, by quadrature over u in [0, T − t]."""

    def at(
        self, t: ct.Time, x: ct.State, context: object, mean: ct.Action | None = None
    ) -> ct.Scalar:
        share = torch.linspace(0, 1, 161, dtype=torch.float64)
        u = (HORIZON - t)[:, None] * share
        fade = (-PULL * u).exp()
        spread = SIGMA**2 * (1 - fade**2) / (2 * PULL)
        return torch.trapezoid((-DISCOUNT * u - spread / 2).exp() * (x * fade).cos(), u)


def test_the_lower_bound_from_rollouts_is_one() -> None:
    """Surrogate, bound and truth put together: J(π′) − J(π) ≥ L − C·KL, with measured numbers."""
    problem, value = _problem(), CosineValue()
    old = ct.GaussianPolicy(lambda t, x, c: 0 * x, 0.2)
    path = ct.simulate(problem, old, ct.TimeGrid.uniform(HORIZON, 40), 400, generator=seeded(1))
    _, steepest = _surrogate_gain(0.0, HORIZON)
    for shift in (-0.05, -0.3, 0.3):
        new = ct.GaussianPolicy(lambda t, x, c, shift=shift: shift + 0 * x, 0.2)
        gain = ct.surrogate(problem, value, new, path)
        rates = ct.kl_rates(problem, new, old, path)
        k = float(rates.max())
        assert math.isclose(k, 0.5 * (shift / SIGMA) ** 2, rel_tol=1e-9)
        exact = _return(shift, HORIZON) - _return(0.0, HORIZON)
        linear = ct.SurrogateBound.linear(SIGMA * steepest, discount=DISCOUNT, horizon=HORIZON)
        lower = linear.lower(gain, k)
        assert lower.mean + 4.5 * lower.stderr < exact + 0.01
        assert (lower.stderr, lower.n) == (gain.stderr, 400)
        assert math.isclose(gain.mean - lower.mean, linear.error(k))
        exact_gain, _ = _surrogate_gain(shift, HORIZON)
        assert abs(gain.mean - exact_gain) < 4.5 * gain.stderr + 0.01
        error = abs(exact - exact_gain)
        measured = ct.measured_surrogate_error(problem, value, new, path)
        assert error < measured < 1.15 * linear.error(k)
    # moving down by a little is an improvement for sure
    better = ct.surrogate(problem, value, ct.GaussianPolicy(lambda t, x, c: 0 * x - 0.05), path)
    small = 0.5 * (0.05 / SIGMA) ** 2
    assert linear.lower(better, small).mean > 4.5 * better.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "a finite horizon or a discount > 0, got horizon inf and discount 0;"),
        ({"horizon": 0.0}, "horizon must be a finite number > 0, got 0.0"),
        ({"discount": -1.0}, "discount must be a finite number >= 0, got -1.0"),
    ],
)
def test_bad_numbers_are_named(settings: dict[str, float], says: str) -> None:
    for make in (ct.SurrogateBound.root, ct.SurrogateBound.linear):
        with pytest.raises(ct.CtcontrolError, match=says):
            make(1.0, **settings)
    with pytest.raises(ct.CtcontrolError, match="kl_rate must be a finite number >= 0"):
        ct.SurrogateBound.root(1.0, discount=1.0).error(-0.1)
