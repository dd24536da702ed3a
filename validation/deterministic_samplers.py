"""Control of the probability-flow ODE, where path KL is infinite."""

import numpy as np
from scipy.integrate import quad

from ctcontrol import TimeGrid, simulate
from ctcontrol.exact.lq import LinearGaussianLaw
from ctcontrol.exact.tilt import DeterministicTilt, GaussianTilt, VariancePreserving
from validation._problems import central, correction, seeded
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
    rate,
)


def problem(quadratic: float = 0.8) -> DeterministicTilt:
    """Data N(0.7, 0.5), β from 0.1 to 8, reward 1.3y − 0.4y², penalty 0.5."""
    return DeterministicTilt(
        VariancePreserving(0.1, 8.0),
        mean=[0.7],
        covariance=0.5,
        linear=[1.3],
        quadratic=quadratic,
        score_cost=0.5,
    )


def value_gap(tilt: DeterministicTilt) -> float:
    """Largest gap of the optimal correction to ∇V/(2κ)."""
    best = tilt.optimal_policy()
    value, gap = tilt.value(best).function, 0.0
    for t in (0.0, 0.3, 0.6, 0.9):
        for x in (-1.0, 0.2, 1.7):
            slope = float(value.at(t).gradient(np.array([x]))[0])
            u = float((best.offset(t) - best.gain(t) @ [x])[0])
            gap = max(gap, abs(u - slope / (2 * tilt.score_cost)))
    return gap


def euler_mean(tilt: DeterministicTilt, law: LinearGaussianLaw, steps: int) -> float:
    """Mean of Y_T of the Euler chain of the ODE, by simulation: linear, so one path is exact."""
    start = DeterministicTilt(
        tilt.schedule,
        mean=tilt.mean,
        covariance=tilt.covariance,
        linear=tilt.linear,
        quadratic=tilt.quadratic,
        score_cost=tilt.score_cost,
        start=(tilt.initial_mean, 0.0),
    )
    grid = TimeGrid.uniform(1.0, steps)
    run = simulate(start.problem(), start.score_policy(law), grid, 1, generator=seeded(0))
    return float(run.final[0, 0])


def check(size: Size) -> Report:
    """u* = ∇V/(2κ), the policy gradient, and a bound on W₂ in place of KL."""
    tilt, law = problem(), correction(0.3, -0.2)
    K, k = np.array([[0.2]]), np.array([0.3])
    exact = tilt.gradient(LinearGaussianLaw(K, k))
    of_gain = central(lambda v: tilt.expected_return(LinearGaussianLaw(v, k)), K, 3e-3)
    of_offset = central(lambda v: tilt.expected_return(LinearGaussianLaw(K, v)), k, 3e-3)
    differences = max(abs(exact.gain - of_gain).max(), abs(exact.offset - of_offset).max())
    best, J = tilt.optimal_return(), tilt.expected_return(law)
    certificate, _ = quad(lambda t: _regret_rate(tilt, law, t), 0, 1, epsabs=1e-12)

    shifts = (0.1, 0.2, 0.4, 0.8)
    distances = [tilt.w2(correction(c, 0.0)) for c in shifts]
    sharp = [tilt.sharp_w2_bound(correction(c, 0.0)) for c in shifts]
    slopes = (-0.4, -0.2, 0.2, 0.4)
    bent = [tilt.w2_bound(correction(0.3, s)) / tilt.w2(correction(0.3, s)) for s in slopes]

    etas = (0.4, 0.2, 0.1, 0.05)
    kls = [_noisy(tilt, eta).path_kl(law, correction(0, 0)) for eta in etas]
    counts = pick(size, (20, 40, 80, 160), (20, 40, 80, 160, 320, 640))
    truth = float(tilt.moments(law).mean(1.0)[0])
    errors = [abs(euler_mean(tilt, law, n) - truth) for n in counts]
    return Report(
        title="Deterministic samplers",
        statement="Along dY = [−fY + ½g²a]dt path KL is infinite. With penalty ½κ∫g²|a − s_pre|² "
        "the optimum is s_pre + ∇V/(2κ), and W₂²(p^θ_T, p^pre_T) ≤ "
        "∫e^{∫(2ℓ+1)}¼g⁴E|μ_θ − s_pre|²dt, ℓ the one-sided Lipschitz constant of the drift.",
        assumptions="Both processes start at the same law; Gaussian data for the closed forms.",
        source="Grönwall's lemma, synchronous coupling; docs/theory, reverse SDE.",
        code=("ctcontrol.exact.tilt.DeterministicTilt", "ctcontrol.exact.tilt.gaussian_w2"),
        claims=(
            equal("optimum", "u* = ∇V/(2κ)", value_gap(tilt), 0),
            equal(
                "gradient", "policy gradient and finite differences", float(differences), 0, 1e-7
            ),
            equal("regret", "J* − J = ½κE∫g²|u − ∇V*/(2κ)|²", best - J, certificate, 1e-9),
            equal("w2_golden", "W₂ after a constant shift 0.4", distances[2], 0.61692584, 1e-8),
            equal(
                "w2_sharp",
                "the sharp bound is W₂ for a constant shift",
                max(map(abs, np.subtract(sharp, distances))),
                0,
            ),
            rate("w2_linear", "W₂ ∝ the shift", shifts, distances, 1.0, 1e-6),
            at_least("w2_bound", "least bound/W₂ over four affine corrections", min(bent), 1.0),
            at_most("w2_tight", "and largest", max(bent), 3.0),
            order(
                "kl_blows_up",
                "path KL of the η-sampler ∝ η⁻² as η → 0",
                etas[1:],
                kls[1:],
                -2.0,
            ),
            order(
                "euler",
                "Euler's method: error of E Y_T is O(Δt)",
                [1 / n for n in counts],
                errors,
                1.0,
            ),
        ),
        plot=Plot(
            "As the sampler's noise vanishes",
            "sampler noise η",
            "divergence of 0.3 − 0.2x from the pretrained model",
            (
                Series("path KL, nats", etas, kls),
                Series("W₂ of the samples", etas, [_w2(tilt, eta) for eta in etas]),
                power("slope −2", etas, kls[-1], -2.0),
            ),
            log_x=True,
            log_y=True,
        ),
    )


def _regret_rate(tilt: DeterministicTilt, law: LinearGaussianLaw, t: float) -> float:
    """½κg²E|u − u*|² along the policy: the advantage of the optimum, −q*."""
    best, moments = tilt.optimal_policy(), tilt.moments(law)
    m, v = moments.mean(t)[0], moments.covariance(t)[0, 0]
    slope = best.gain(t)[0, 0] - law.gain(t)[0, 0]
    constant = law.offset(t)[0] - best.offset(t)[0]
    square = (constant + slope * m) ** 2 + slope**2 * v
    return float(0.5 * tilt.score_cost * tilt.schedule.intensity(1 - t) * square)


def _noisy(tilt: DeterministicTilt, eta: float) -> GaussianTilt:
    """The η-sampler of the same model."""
    return GaussianTilt(
        tilt.schedule,
        mean=tilt.mean,
        covariance=tilt.covariance,
        linear=tilt.linear,
        quadratic=tilt.quadratic,
        kl_weight=0.5,
        eta=eta,
    )


def _w2(tilt: DeterministicTilt, eta: float) -> float:
    from ctcontrol.exact.tilt import gaussian_w2

    noisy = _noisy(tilt, eta)
    ends = [noisy.moments(law) for law in (correction(0.3, -0.2), correction(0, 0))]
    return gaussian_w2(*((m.mean(1.0), m.covariance(1.0)) for m in ends))
