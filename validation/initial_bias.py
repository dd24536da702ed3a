"""What the start of a sampler keeps of the tilt."""

import numpy as np

from ctcontrol import Estimate, TimeGrid, simulate
from ctcontrol.exact.tilt import GaussianTilt, VariancePreserving
from validation._chains import nodes
from validation._problems import seeded
from validation._report import Plot, Report, Series, Size, equal, order, pick, power, sampled

GOLDEN = {1.0: 0.86607621, 0.7: 0.66696359, 0.3: 0.19050950}
MEAN, VARIANCE, REWARD, KAPPA = 0.4, 0.6, 1.1, 0.7


def problem(eta: float, largest: float = 4.0, quadratic: float = 0.0) -> GaussianTilt:
    """Data N(0.4, 0.6), β from 0.1 to 4, reward 1.1y, κ = 0.7; started at p_T."""
    return GaussianTilt(
        VariancePreserving(0.1, largest),
        mean=[MEAN],
        covariance=VARIANCE,
        linear=[REWARD],
        quadratic=quadratic,
        kl_weight=KAPPA,
        eta=eta,
    )


def end(tilt: GaussianTilt) -> tuple[float, float]:
    """Mean and variance of the samples of the optimal policy, by the moment equations."""
    moments = tilt.moments(tilt.optimal_policy())
    T = tilt.horizon
    return float(moments.mean(T)[0]), float(moments.covariance(T)[0, 0])


def chain_mean(tilt: GaussianTilt, steps: int) -> float:
    """Mean of the samples that so many steps of Euler and Maruyama make."""
    return float(nodes(tilt, tilt.optimal_policy(), steps).means[-1, 0])


def check(size: Size) -> Report:
    """The optimum started at p_T shifts the mean by (1 − ϱ_T^{2η²}) vb/κ, not by vb/κ."""
    off = {eta: abs(end(problem(eta))[0] - MEAN - shift) for eta, shift in GOLDEN.items()}
    spread = max(abs(end(problem(eta))[1] - VARIANCE) for eta in GOLDEN)
    alpha2 = problem(1.0).schedule.alpha(1.0) ** 2
    kept = alpha2 * VARIANCE / (alpha2 * VARIANCE + 1 - alpha2)

    repaired = []
    for eta in (1.0, 0.5, 0.2):
        tilt = problem(eta, quadratic=0.5)
        m, v = end(tilt.started_at(tilt.tilted_start()))
        goal = tilt.target()
        repaired.append(max(abs(m - goal[0][0]), abs(v - goal[1][0, 0])))
    ends = []
    for eta in (1.0, 0.5):
        tilt = problem(eta, quadratic=0.5)
        first, second = tilt.optimal_end()
        ends.append(max(abs(end(tilt)[0] - first[0]), abs(end(tilt)[1] - second[0, 0])))

    etas = (0.2, 0.1, 0.05, 0.025)
    small = [end(problem(eta))[0] - MEAN for eta in etas]
    horizons = (4.0, 8.0, 12.0, 16.0)
    missing = [1 - (end(problem(1.0, b))[0] - MEAN) * KAPPA / (VARIANCE * REWARD) for b in horizons]
    logs = [np.exp(-(0.1 + 0.5 * (b - 0.1))) for b in horizons]

    steps, batch, tilt = pick(size, 100, 400), pick(size, 20_000, 50_000), problem(0.7)
    run = simulate(
        tilt.problem(),
        tilt.score_policy(tilt.optimal_policy()),
        TimeGrid.uniform(1.0, steps),
        batch,
        generator=seeded(3),
    )
    fine = (100, 200, 400)
    levels = [k / 20 for k in range(1, 21)]
    wanted = VARIANCE * REWARD / KAPPA
    return Report(
        title="Initial-value bias",
        statement="Drift control cannot repair the start: from p_T the optimal η-sampler of a "
        "linear reward ends with the mean m + (1 − ϱ_T^{2η²}) vb/κ, ϱ_T² = α_T²v/S_T the squared "
        "correlation of X_0 and X_T, in place of the tilt's m + vb/κ. The ODE (η → 0) does not "
        "tilt at all; the tilted start p_0 e^{V(0)/κ} removes the bias for every η.",
        assumptions="Gaussian data; quadratic reward; exact pretrained score.",
        source="Tang 2024 (2403.06279); Domingo-Enrich et al. 2024 (2409.08861); "
        "docs/theory, reverse SDE.",
        code=(
            "ctcontrol.exact.tilt.GaussianTilt.mean_shift",
            "ctcontrol.exact.tilt.GaussianTilt.tilted_start",
            "ctcontrol.exact.tilt.GaussianTilt.optimal_end",
        ),
        claims=(
            *(
                equal(f"shift_{round(10 * eta)}", f"shift of the mean at η = {eta}", gap, 0, 1e-8)
                for eta, gap in off.items()
            ),
            equal(
                "formula",
                "(1 − ϱ^{2η²}) vb/κ at η = 0.7",
                float(problem(0.7).mean_shift()[0]),
                (1 - kept**0.49) * wanted,
            ),
            equal("correlation", "ϱ_T²", kept, 0.0814, 5e-5),
            equal("variance", "the variance of the samples stays v", spread, 0),
            equal(
                "repaired",
                "from the tilted start the samples have the target's law",
                max(repaired),
                0,
            ),
            equal("ends", "closed form of the samples' law, quadratic reward", max(ends), 0),
            order("ode_limit", "η → 0: shift ∝ η²", etas, small, 2.0),
            order("memoryless", "η = 1: missing share of the shift ∝ α_T²", logs, missing, 1.0),
            sampled(
                "simulated",
                f"simulated mean at η = 0.7, {steps} steps, and exactly",
                Estimate.of(run.final),
                chain_mean(tilt, steps),
            ),
            order(
                "grid",
                "which tends to that of the SDE: O(Δt)",
                [1.0 / n for n in fine],
                [chain_mean(tilt, n) - MEAN - float(tilt.mean_shift()[0]) for n in fine],
                1.0,
            ),
        ),
        plot=Plot(
            "Shift of the samples' mean under the optimal policy",
            "sampler noise η",
            "E Y_T − m",
            (
                Series("from p_T", levels, [end(problem(eta))[0] - MEAN for eta in levels]),
                Series(
                    "from the tilted start",
                    levels[1::3],
                    [
                        end(t.started_at(t.tilted_start()))[0] - MEAN
                        for t in map(problem, levels[1::3])
                    ],
                ),
                power("target: vb/κ", levels, wanted, 0.0),
            ),
        ),
    )
