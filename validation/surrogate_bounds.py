"""The surrogate touches the return to first order, and the remainder has a bound."""

import math

import numpy as np
from scipy.integrate import quad

from ctcontrol import SurrogateBound
from validation._problems import correction, gaussian_tilt, two_state_law, two_states
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_least,
    at_most,
    equal,
    order,
    pick,
    power,
)

HORIZON, START = 1.0, 0.4
DISCOUNT, PULL, NOISE = 0.5, 0.9, 0.7


def finite(shift: float) -> tuple[float, float]:
    """Error and bound for dX = a dt + dW, reward sin 2X_T, actions 0 → `shift`; closed forms.

    V = e^{−2(T−t)} sin 2x and A_t = shift·V_x, so that |A_t|∞ = 2 shift e^{−2(T−t)}. The bound
    is ∫|A_t|∞ (E∫₀ᵗ|σ⁻¹Δb|²)^½ dt.
    """
    T, x = HORIZON, START
    gain = math.exp(-2 * T) * (math.sin(2 * (x + shift * T)) - math.sin(2 * x))
    # E V_x(t, x + W_t) = 2e^{−2T} cos 2x, at all times.
    surrogate = shift * T * 2 * math.exp(-2 * T) * math.cos(2 * x)
    bound, _ = quad(
        lambda t: 2 * shift * math.exp(-2 * (T - t)) * shift * math.sqrt(t), 0, T, epsabs=1e-13
    )
    return abs(gain - surrogate), bound


def _transformed(function: str, start: float, push: float) -> float:
    """∫e^{−ρt}E f(X_t)dt for dX = (push − kX)dt + σdW, f = cos or sin."""

    def rate(t: float) -> float:
        fade = math.exp(-PULL * t)
        mean = start * fade + push / PULL * (1 - fade)
        variance = NOISE**2 / (2 * PULL) * (1 - fade**2)
        wave = math.cos(mean) if function == "cos" else math.sin(mean)
        return math.exp(-DISCOUNT * t - 0.5 * variance) * wave

    return quad(rate, 0, 60, epsabs=1e-12, epsrel=1e-12, limit=400)[0]


def slope(x: float) -> float:
    """V′(x) for reward cos x and no action: −∫e^{−(ρ + k)t}E sin X_t dt."""

    def rate(t: float) -> float:
        fade = math.exp(-PULL * t)
        variance = NOISE**2 / (2 * PULL) * (1 - fade**2)
        return math.exp(-(DISCOUNT + PULL) * t - 0.5 * variance) * math.sin(x * fade)

    return -quad(rate, 0, 40, epsabs=1e-12, epsrel=1e-12, limit=400)[0]


def discounted(shift: float, steepest: float) -> tuple[float, float]:
    """Error and bound of Ornstein–Uhlenbeck, reward cos x, drift shifted by `shift`.

    The bound is ½√π ρ^{−3/2}|A|∞ shift/σ, with |A|∞ = shift·max|V′|.
    """
    gain = _transformed("cos", START, shift) - _transformed("cos", START, 0.0)

    def along(t: float) -> float:
        # E V′(X_t): V′ is −∫e^{−(ρ+k)u}E sin(X_u | X_0), the sine seen from time t + u.
        def later(u: float) -> float:
            fade = math.exp(-PULL * (t + u))
            variance = NOISE**2 / (2 * PULL) * (1 - fade**2)
            wave = math.sin(START * fade) * math.exp(-0.5 * variance)
            return -math.exp(-(DISCOUNT + PULL) * u) * wave

        return math.exp(-DISCOUNT * t) * quad(later, 0, 40, epsabs=1e-11, epsrel=1e-11)[0]

    surrogate = shift * quad(along, 0, 60, epsabs=1e-10, epsrel=1e-10, limit=200)[0]
    bound = 0.5 * math.sqrt(math.pi) * DISCOUNT**-1.5 * shift * steepest * shift / NOISE
    return abs(gain - surrogate), bound


def check(size: Size) -> Report:
    """|J(π′) − L^π(π′)| = O(δ²), with explicit constants."""
    tilt, first, second = gaussian_tilt(), correction(0.3, -0.2), correction(0.9, 0.1)
    lq, old = two_states(), two_state_law()
    shifts = pick(size, (0.4, 0.2, 0.1, 0.05), (0.4, 0.2, 0.1, 0.05, 0.025, 0.0125))
    remainder, first_order = [], []
    for shift in shifts:
        new = two_state_law(shift=shift)
        change = lq.expected_return(new) - lq.expected_return(old)
        surrogate = lq.surrogate_gain(old, new)
        remainder.append(abs(change - surrogate))
        first_order.append(abs(change))
    with_horizon = [finite(s) for s in shifts]
    steepest = max(abs(slope(x)) for x in np.linspace(0, math.pi, pick(size, 33, 257)))
    without = [discounted(s, steepest) for s in shifts]
    unresolved = SurrogateBound.linear(2.0, horizon=HORIZON).error(0.5 * shifts[0] ** 2)
    library = SurrogateBound.linear(steepest * NOISE, discount=DISCOUNT).error(
        0.5 * (shifts[0] / NOISE) ** 2
    )
    general = SurrogateBound.root(shifts[0] * steepest, discount=DISCOUNT).error(
        0.5 * (shifts[0] / NOISE) ** 2
    )
    ratios = [bound / error for error, bound in with_horizon]
    ratios_without = [bound / error for error, bound in without]
    return Report(
        title="Surrogate and its lower bound",
        statement="L^π(π′) = J(π) + E^π∫e^{−ρt}E_{π′}[q^π]dt agrees with J(π′) to first order, and "
        "|J(π′) − L^π(π′)| ≤ ∫e^{−ρt}|A_t|∞(E^{π′}∫₀ᵗ|σ⁻¹Δb|²du)^½ dt, A_t = E_{π′}q^π: of second "
        "order, linear in the policies' KL. Without a horizon the bound is "
        "½√π ρ^{−3/2}|A|∞ sup|σ⁻¹Δb|.",
        assumptions="σ free of state and action; A bounded.",
        source="Pinsker's inequality and Girsanov; docs/theory, surrogate.",
        code=(
            "ctcontrol.SurrogateBound",
            "ctcontrol.exact.lq.LinearQuadraticSystem.surrogate_gain",
        ),
        claims=(
            equal(
                "golden",
                "L − J from 0.3 − 0.2x to 0.9 + 0.1x",
                tilt.surrogate_gain(first, second),
                -0.437970552,
                1e-9,
            ),
            order("remainder", "two states: J − L ∝ δ²", shifts, remainder, 2.0),
            order("change", "while J(π′) − J(π) ∝ δ", shifts, first_order, 1.0),
            order("finite_error", "sin 2X_T: ∝ δ²", shifts, [e for e, _ in with_horizon], 2.0),
            equal(
                "library",
                "the library's bound, linear in KL, is that constant",
                library,
                without[0][1],
            ),
            equal(
                "library_root", "and so is the one in √KL, with the same A", general, without[0][1]
            ),
            at_least(
                "unresolved",
                "one number for all times is above the bound resolved in time",
                unresolved,
                with_horizon[0][1],
            ),
            at_least("finite_bound", "with a horizon, least bound/error", min(ratios), 1.0),
            at_most("finite_tight", "and largest", max(ratios), 5.0),
            order(
                "discounted_error",
                "cos X, discounted: error ∝ δ²",
                shifts,
                [e for e, _ in without],
                2.0,
            ),
            at_least("discounted_bound", "discounted, least bound/error", min(ratios_without), 1.0),
            at_most("discounted_tight", "and largest", max(ratios_without), 12.0),
        ),
        plot=Plot(
            "Error of the surrogate and its bound",
            "change δ of the drift",
            "|J − L|",
            (
                Series("error, sin 2X_T", shifts, [e for e, _ in with_horizon]),
                Series("bound", shifts, [b for _, b in with_horizon]),
                Series("error, discounted cos X", shifts, [e for e, _ in without]),
                Series("bound, discounted", shifts, [b for _, b in without]),
                power("slope 2", shifts, with_horizon[-1][0], 2.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )
