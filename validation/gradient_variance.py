"""How the variance of a policy gradient depends on exploration and step size."""

from collections.abc import Sequence

from torch import Tensor

from ctcontrol import Estimate
from ctcontrol.advantages import ItoAdvantage, TemporalDifferenceAdvantage
from validation._chains import nodes
from validation._gradients import analytic, directions, samples
from validation._problems import two_state_law, two_states
from validation._report import Plot, Report, Series, Size, at_least, pick, rate, sampled


def spreads(values: Sequence[Tensor]) -> tuple[list[float], list[float]]:
    """Standard deviations a path, and their standard errors."""
    stds = [float(v.std()) for v in values]
    # Var s ≈ (m4 − s⁴)/(4 n s²), for any law.
    fourth = [float(((v - v.mean()) ** 4).mean()) for v in values]
    pairs = zip(stds, fourth, values, strict=True)
    return stds, [((m - s**4) / (4 * len(v) * s**2)) ** 0.5 for s, m, v in pairs]


def exact_spreads(covariance: float, steps: int) -> tuple[float, float]:
    """Of the integrated form, and of q in closed form as Σ → 0; of the chain.

    q times δ/Σ is z²∂_a q + R√Σ(z − z³) for δ = √Σ z: the second term and what δ does to later
    states change the variance by O(Σ), 1e-4 of it here, which a simulation cannot see.
    """
    chain = nodes(two_states(), two_state_law(covariance), steps)
    rows = directions(covariance, steps)
    integrated = independent = 0.0
    for j, (E, e) in enumerate(rows):
        own = E @ chain.covariances[j] @ E
        integrated += own + 2 * sum(
            rows[k][0] @ chain.between(j, k) @ E for k in range(j + 1, steps)
        )
        independent += 2 * (own + (E @ chain.means[j] + e) ** 2)  # Var z² = 2
    return integrated**0.5, (integrated + independent) ** 0.5


def check(size: Size) -> Report:
    """Spread of one path's estimate: Σ^(−1/2) with temporal differences, flat in closed form."""
    td, ito = TemporalDifferenceAdvantage(), ItoAdvantage()
    levels, counts = (1e-4, 1e-3, 1e-2, 1e-1), (10, 20, 40, 80)
    draws = pick(size, 5_000, 50_000)
    by_level, bars = spreads([samples(c, 50, draws, td, chain=False) for c in levels])
    closed, closed_bars = spreads([samples(c, 50, draws, ito, chain=False) for c in levels[:3]])
    by_count, count_bars = spreads([samples(0.01, n, draws, td, chain=False) for n in counts])
    (flat,), (flat_bar,) = spreads([analytic(levels[0], 50, draws)])
    exact_flat, exact_closed = exact_spreads(levels[0], 50)
    lengths = [1.0 / n for n in counts]
    return Report(
        title="Variance of the policy gradient",
        statement="With temporal differences for q the spread of one path's likelihood-ratio "
        "estimate is ∝ Σ^(−1/2), whatever Δt; with q in closed form it does not grow as Σ → 0, and "
        "with the Gaussian integral over actions done it is lowest.",
        assumptions="Gaussian policy of covariance Σ; σ free of the action; exact V.",
        source="docs/theory, policy gradient.",
        code=(
            "ctcontrol.advantages.TemporalDifferenceAdvantage",
            "ctcontrol.advantages.ItoAdvantage",
            "ctcontrol.PathwisePolicyGradient",
        ),
        claims=(
            rate(
                "spread_in_exploration",
                "temporal differences: spread ∝ Σ^(−1/2)",
                levels,
                by_level,
                -0.5,
                0.05,
                bars,
            ),
            rate(
                "spread_in_step", "and independent of Δt", lengths, by_count, 0.0, 0.05, count_bars
            ),
            rate(
                "spread_closed_form",
                "q in closed form: spread independent of Σ",
                levels[:3],
                closed,
                0.0,
                0.05,
                closed_bars,
            ),
            sampled(
                "closed_form",
                "which for small Σ is that of Σ e^{−ρt}z² ∂_a q Δ, z ~ N(0, 1)",
                Estimate(closed[0], closed_bars[0], draws),
                exact_closed,
            ),
            sampled(
                "integrated",
                "integrated over actions: the spread of Σ e^{−ρt}∂_a q Δ, which is lower",
                Estimate(flat, flat_bar, draws),
                exact_flat,
            ),
            at_least(
                "share",
                "by the factor (both exact)",
                exact_closed / exact_flat,
                1.0,
            ),
        ),
        plot=Plot(
            "Spread of one path's gradient estimate",
            "exploration Σ",
            "standard deviation",
            (
                Series("temporal differences", levels, by_level, bars),
                Series("q in closed form", levels[:3], closed, closed_bars),
                Series("integrated over actions", levels, [flat] * 4, reference=True),
            ),
            log_x=True,
            log_y=True,
        ),
    )
