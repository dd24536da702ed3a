"""Adjoint matching: a regression whose only fixed point is the optimum."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import quad, solve_ivp

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.lq import LinearGaussianLaw
from ctcontrol.exact.tilt import GaussianTilt
from validation._chains import nodes
from validation._problems import correction, gaussian_tilt, seeded
from validation._report import (
    Plot,
    Report,
    Series,
    Size,
    at_least,
    equal,
    order,
    pick,
    rate,
    sampled,
)

Affine = Callable[[float], tuple[float, float]]
"""t ↦ (constant, slope) of a correction u = constant + slope·x."""


def linear_reward() -> GaussianTilt:
    """The same data with the reward 1.3y."""
    tilt = gaussian_tilt()
    return GaussianTilt(
        tilt.schedule,
        mean=tilt.mean,
        covariance=tilt.covariance,
        linear=tilt.linear,
        kl_weight=tilt.kl_weight,
    )


def adjoint(tilt: GaussianTilt, t: float) -> float:
    """Φ(T, t) = exp ∫ₜᵀ∇b with the *pretrained* drift b: the lean adjoint per unit of ∇g."""
    rate, _ = quad(lambda s: tilt.coefficients(s).A[0, 0], t, tilt.horizon, epsabs=1e-13)
    return float(np.exp(rate))


def expected_end(tilt: GaussianTilt, law: Affine) -> Affine:
    """t ↦ (φ, Φ) with E[Y_T | Y_t = x] = Φx + φ under the correction, by the backward equation."""

    def rates(t: float, y: np.ndarray) -> np.ndarray:
        now, (constant, slope) = tilt.coefficients(t), law(t)
        closed = now.A[0, 0] + now.B[0, 0] * slope
        push = now.f[0] + now.B[0, 0] * constant
        return np.array([-y[1] * push, -y[1] * closed])

    flow = solve_ivp(
        rates, (tilt.horizon, 0.0), [0.0, 1.0], method="DOP853", dense_output=True,
        rtol=1e-11, atol=1e-12,
    ).sol  # fmt: skip
    return lambda t: (float(flow(t)[0]), float(flow(t)[1]))


def matched(tilt: GaussianTilt, law: Affine) -> Affine:
    """What the regression finds under `law`: E[−ã | Y_t = x], ã = −Φ(T, t)(b − K Y_T)/κ."""
    end = expected_end(tilt, law)
    nodes = np.linspace(0.0, tilt.horizon, 65)
    b, K, kappa = float(tilt.linear[0]), float(tilt.quadratic[0, 0]), tilt.kl_weight
    rows = []
    for t in nodes.tolist():
        shift, flow = end(t)
        scale = adjoint(tilt, t) / kappa
        rows.append((scale * (b - K * shift), -scale * K * flow))
    table = np.polynomial.chebyshev.Chebyshev
    fits = [table.fit(nodes, column, 24) for column in np.array(rows).T]
    return lambda t: (float(fits[0](t)), float(fits[1](t)))


def as_affine(law: LinearGaussianLaw) -> Affine:
    """The other way to write it."""
    return lambda t: (float(law.offset(t)[0]), -float(law.gain(t)[0, 0]))


def gap(first: Affine, second: Affine) -> float:
    """Largest difference of the coefficients at some times."""
    times = (0.0, 0.25, 0.5, 0.75, 0.95)
    return max(float(np.abs(np.subtract(first(t), second(t))).max()) for t in times)


def simulated(tilt: GaussianTilt, law: LinearGaussianLaw, batch: int, steps: int) -> Estimate:
    """E Σ(u + ã)·x Δ: the gradient of the matching loss along a slope; 0 at the optimum."""
    policy, grid = tilt.score_policy(law), TimeGrid.uniform(1.0, steps)
    run = simulate(tilt.problem(), policy, grid, batch, generator=seeded(6))
    end, total = run.final[:, 0], torch.zeros(batch, dtype=torch.float64)
    slope = (float(tilt.linear[0]) - float(tilt.quadratic[0, 0]) * end) / tilt.kl_weight
    for k, t in enumerate(run.grid.times[:-1].tolist()):
        x = run.states[k, :, 0]
        constant, tilt_of = as_affine(law)(t)
        total += (constant + tilt_of * x - adjoint(tilt, t) * slope) * x / steps
    return Estimate.of(total)


def expected(tilt: GaussianTilt, law: LinearGaussianLaw, steps: int) -> float:
    """The mean of `simulated`, from the Gaussian chain of that many steps."""
    chain, total = nodes(tilt, law, steps), 0.0
    m, v = chain.means[:, 0], chain.covariances[:, 0, 0]
    flow = np.append(np.cumprod(chain.flows[::-1, 0, 0])[::-1], 1.0)  # of X_k into X_N
    b, K = float(tilt.linear[0]), float(tilt.quadratic[0, 0])
    for k, t in enumerate(chain.times):
        constant, slope = as_affine(law)(t)
        with_end = flow[k] * v[k] + m[k] * m[-1]
        matching = adjoint(tilt, t) * (b * m[k] - K * with_end) / tilt.kl_weight
        total += (constant * m[k] + slope * (v[k] + m[k] ** 2) - matching) * chain.step
    return total


def check(size: Size) -> Report:
    """u* = E*[−σᵀã | X_t], and for no other policy."""
    easy, tilt = linear_reward(), gaussian_tilt()
    times = (0.0, 0.2, 0.5, 0.8, 0.99)
    offset = easy.optimal_policy().offset
    pathwise = max(
        abs(adjoint(easy, t) * easy.linear[0] / easy.kl_weight - offset(t)[0]) for t in times
    )
    best = as_affine(tilt.optimal_policy())
    pretrained = as_affine(correction(0.0, 0.0))
    at_best, elsewhere = gap(matched(tilt, best), best), gap(matched(tilt, pretrained), pretrained)
    law, distances = pretrained, [gap(pretrained, best)]
    for _ in range(10):
        law = matched(tilt, law)
        distances.append(gap(law, best))
    one = matched(easy, as_affine(correction(0.5, -0.3)))
    steps, batch = pick(size, 100, 400), pick(size, 10_000, 50_000)
    flat = simulated(tilt, tilt.optimal_policy(), batch, steps)
    slope = simulated(tilt, correction(0.0, 0.0), batch, steps)
    near, fine = (0.4, 0.2, 0.1, 0.05), (100, 200, 400)
    moved = [
        gap(matched(tilt, _mixed(best, pretrained, s)), _mixed(best, pretrained, s)) for s in near
    ]
    return Report(
        title="The fixed point of adjoint matching",
        statement="The lean adjoint solves dã/dt = −ãᵀ∇b with the pretrained drift alone, from "
        "ã(T) = −∇r(Y_T)/κ. The loss ½E∫|u + σᵀã|² has the optimum as its only critical point: "
        "E^u[−ã | Y_t] = u iff u = u*. For a linear reward ã is deterministic and the target is u* "
        "on every path, whatever policy made it.",
        assumptions="Trajectories count as constants (stop-gradient); memoryless noise η = 1.",
        source="Domingo-Enrich et al. 2024 (2409.08861); docs/theory, reverse SDE.",
        code=("ctcontrol.exact.tilt.GaussianTilt.optimal_policy",),
        claims=(
            equal("pathwise", "linear reward: −ã is u* on every path", pathwise, 0, 1e-9),
            equal(
                "one_step",
                "so one regression from any policy ends there",
                gap(one, as_affine(easy.optimal_policy())),
                0,
                1e-7,
            ),
            equal("fixed_point", "quadratic reward: E*[−ã | Y_t] = u*", at_best, 0, 1e-7),
            at_least(
                "not_elsewhere",
                "at the pretrained score the target is elsewhere by",
                elsewhere,
                0.5,
            ),
            rate("linear_gap", "distance to the target ∝ distance to u*", near, moved, 1.0, 0.001),
            equal(
                "converged",
                "after ten regressions: distance to u*",
                distances[-1],
                0,
                1e-7,
            ),
            sampled(
                "gradient_at_optimum",
                f"simulated gradient of the loss at u*, {steps} steps, and exactly",
                flat,
                expected(tilt, tilt.optimal_policy(), steps),
            ),
            order(
                "gradient_vanishes",
                "which is O(Δt)",
                [1.0 / n for n in fine],
                [expected(tilt, tilt.optimal_policy(), n) for n in fine],
                1.0,
            ),
            at_least(
                "gradient_elsewhere",
                "and its size at the pretrained score",
                abs(slope.mean),
                0.05,
                slope.stderr,
            ),
        ),
        plot=Plot(
            "Adjoint matching, each regression solved exactly",
            "regression",
            "largest error of the coefficients of u",
            (Series("quadratic reward", range(len(distances)), distances),),
            log_y=True,
        ),
    )


def _mixed(first: Affine, second: Affine, share: float) -> Affine:
    """(1 − share)·first + share·second."""
    return lambda t: (
        (1 - share) * first(t)[0] + share * second(t)[0],
        (1 - share) * first(t)[1] + share * second(t)[1],
    )
