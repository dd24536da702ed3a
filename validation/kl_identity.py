"""Path KL, and what of it does not reach the samples."""

import math

from scipy.integrate import quad

from ctcontrol import Estimate, TimeGrid, path_log_ratio, simulate
from ctcontrol.exact.tilt import GaussianTilt
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
    power,
    sampled,
)

CONSTANT, SLOPE = 0.6, -0.25


def dissipation(tilt: GaussianTilt) -> tuple[float, float, float]:
    """(path KL, KL of the marginals at T, gap) of the score error 0.6 − 0.25x, by quadrature.

    The gap is ½E∫g²|∇log(p^θ/p^pre) − Δμ|²dt over the exact Gaussian marginals.
    """
    law = correction(CONSTANT, SLOPE)
    moments, T = tilt.moments(law), tilt.horizon

    def rates(t: float) -> tuple[float, float]:
        m, v = moments.mean(t)[0], moments.covariance(t)[0, 0]
        center, spread = (float(a.squeeze()) for a in tilt.noised(T - t))
        beta = tilt.schedule.intensity(T - t)
        # ∇log(p^θ/p^pre) = −(x − m)/v + (x − center)/spread, affine like Δμ.
        slope = 1 / spread - 1 / v - SLOPE
        constant = m / v - center / spread - CONSTANT
        error = (CONSTANT + SLOPE * m) ** 2 + SLOPE**2 * v
        return 0.5 * beta * error, 0.5 * beta * ((constant + slope * m) ** 2 + slope**2 * v)

    path, gap = (
        quad(lambda t, i=i: rates(t)[i], 0, T, epsabs=1e-13, epsrel=1e-13)[0] for i in (0, 1)
    )
    m, v = moments.mean(T)[0], moments.covariance(T)[0, 0]
    mean, variance = tilt.mean[0], tilt.covariance[0, 0]
    terminal = 0.5 * (v / variance + (m - mean) ** 2 / variance - 1 - math.log(v / variance))
    return path, terminal, gap


def check(size: Size) -> Report:
    """KL(P^θ‖P^pre) = ½E^θ∫g²|μ_θ − s_pre|²dt; marginals differ by less."""
    tilt = gaussian_tilt()
    path, terminal, gap = dissipation(tilt)
    split = tilt.divergence(correction(CONSTANT, SLOPE))
    exact = split.path
    wrong, _ = quad(lambda t: _wrong_clock(tilt, t), 0, tilt.horizon, epsabs=1e-12)

    problem, policy = tilt.problem(), tilt.score_policy(correction(CONSTANT, SLOPE))
    steps, batch = pick(size, 100, 400), pick(size, 20_000, 50_000)
    chain = _chain_kl(tilt, steps)
    grid = TimeGrid.uniform(tilt.horizon, steps)
    run = simulate(problem, policy, grid, batch, generator=seeded(1))
    pretrained = tilt.score_policy(correction(0, 0))
    log_ratio = path_log_ratio(problem, policy, pretrained, run)

    counts = (10, 20, 40, 80, 160, 320)
    bias = [abs(_chain_kl(tilt, n) - exact) for n in counts]
    sizes = [tilt.horizon / n for n in counts]
    claims = (
        equal("path_kl_golden", "path KL of the score error 0.6 − 0.25x", exact, 0.43619701, 1e-8),
        equal("path_kl_quadrature", "path KL by Girsanov's integral and by the ODE", path, exact),
        equal("marginal_kl_golden", "KL of the samples", terminal, 0.18664526, 1e-8),
        equal(
            "terminal_gap",
            "path KL − marginal KL = ½E∫g²|∇log(p/p_pre) − Δμ|²",
            path - terminal,
            gap,
        ),
        equal("library_marginal", "the library's KL of the samples", split.marginal, terminal),
        equal("library_gap", "and its gap", split.gap, gap),
        at_least(
            "gap_is_positive", "the path KL is more than the samples' KL", path, terminal + 0.2
        ),
        at_least(
            "clock", "g² on the wrong clock is off by a quarter", abs(wrong / exact - 1), 0.25
        ),
        sampled(
            "simulated_kl",
            f"penalty summed by the simulator, {steps} steps",
            Estimate.of(run.divergence()),
            chain,
        ),
        sampled(
            "log_ratio",
            "E^θ log dP^θ/dP^pre is that penalty",
            Estimate.of(log_ratio - run.divergence()),
            0.0,
        ),
        sampled("ratio_is_a_density", "E^θ dP^pre/dP^θ = 1", Estimate.of((-log_ratio).exp()), 1.0),
        order("euler_rate", "KL of the Euler chain − path KL is O(Δt)", sizes, bias, 1.0),
    )
    plot = Plot(
        "KL of an Euler chain tends to the path KL at rate 1",
        "Δt",
        "|KL(chain) − path KL|, nats",
        (Series("Euler–Maruyama chain", sizes, bias), power("slope 1", sizes, bias[-1], 1.0)),
        log_x=True,
        log_y=True,
    )
    return Report(
        title="Path KL and the terminal gap",
        statement="KL(P^θ‖P^pre) = ½ E^θ∫₀ᵀ g²(T−t)|μ_θ − s_pre|²(t, Y_t) dt. The samples' own "
        "divergence KL(p^θ_T‖p^pre_T) is smaller by "
        "½ E^θ∫ g²|∇log(p^θ_t/p^pre_t) − (μ_θ − s_pre)|² dt.",
        assumptions="Both processes start from the same law; Novikov's condition; g > 0.",
        source="Girsanov; docs/theory, path KL.",
        code=(
            "ctcontrol.PathKL",
            "ctcontrol.path_log_ratio",
            "ctcontrol.exact.tilt.GaussianTilt.divergence",
        ),
        claims=claims,
        plot=plot,
    )


def _wrong_clock(tilt: GaussianTilt, t: float) -> float:
    """The integrand with g² at t in place of T − t."""
    moments = tilt.moments(correction(CONSTANT, SLOPE))
    m, v = moments.mean(t)[0], moments.covariance(t)[0, 0]
    return 0.5 * tilt.schedule.intensity(t) * ((CONSTANT + SLOPE * m) ** 2 + SLOPE**2 * v)


def _chain_kl(tilt: GaussianTilt, steps: int) -> float:
    """½Σβ_kΔ E|Δμ|² over the exact moments of the Euler chain."""
    dt, T = tilt.horizon / steps, tilt.horizon
    m, v = float(tilt.initial_mean[0]), float(tilt.initial_covariance[0, 0])
    total = 0.0
    for k in range(steps):
        now, beta = tilt.coefficients(k * dt), tilt.schedule.intensity(T - k * dt)
        total += 0.5 * beta * dt * ((CONSTANT + SLOPE * m) ** 2 + SLOPE**2 * v)
        grow = 1 + dt * (now.A[0, 0] + beta * SLOPE)
        m = grow * m + dt * (now.f[0] + beta * CONSTANT)
        v = grow**2 * v + dt * beta
    return float(total)
