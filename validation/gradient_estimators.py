"""How the spread of every policy-gradient estimator depends on the number of steps."""

from collections.abc import Sequence

from torch import Tensor

from ctcontrol import Estimate, TimeGrid
from ctcontrol.exact.lq import LinearGaussianPolicy
from validation._estimators import GAIN, STD, estimates, pathwise, regulator
from validation._report import (
    Claim,
    Plot,
    Report,
    Series,
    Size,
    at_least,
    pick,
    rate,
    sampled,
)

LEVELS: dict[int, dict[str, float]] = {
    16: {"reinforce": 7.1, "girsanov": 1.3},
    256: {"reinforce": 27.0, "baseline": 8.0, "differences": 0.80, "closed": 0.067}
    | {"weighted": 0.062, "pathwise": 0.11},
    1024: {"reinforce": 57.0, "baseline": 15.0, "differences": 0.74, "closed": 0.051}
    | {"girsanov": 1.17, "weighted": 0.049, "pathwise": 0.10},
}
"""Spreads of one path as they were first measured, by a program apart; good to 20 %."""


def spread(values: Tensor) -> tuple[float, float]:
    """Standard deviation a path, and its standard error: Var s ≈ (m4 − s⁴)/(4 n s²)."""
    s, fourth = float(values.std()), float(((values - values.mean()) ** 4).mean())
    return s, ((fourth - s**4) / (4 * len(values))) ** 0.5 / s


def excess(values: Tensor, floor: Tensor) -> tuple[float, float]:
    """How much more variance than `floor`, paths the same, and its standard error."""
    a, b = ((v - v.mean()).square() for v in (values, floor))
    return float((a - b).mean()), float((a - b).std()) / len(a) ** 0.5


def check(size: Size) -> Report:
    """REINFORCE blows up like √N; temporal differences do not; q in closed form gets better."""
    counts = pick(size, (16, 64, 256), (16, 64, 256, 1024))
    batch = pick(size, 4_000, 8_000)
    every = {n: estimates(n, batch) for n in counts}
    tangents = {n: pathwise(n, batch) for n in counts}

    def law(name: str) -> tuple[list[float], list[float]]:
        if name == "pathwise":
            stds = [tangents[n].stderr * batch**0.5 for n in counts]
            return stds, [s / (2 * batch) ** 0.5 for s in stds]
        pairs = [spread(every[n][name]) for n in counts]
        return [s for s, _ in pairs], [bar for _, bar in pairs]

    names = ("reinforce", "baseline", "differences", "girsanov", "closed", "weighted", "pathwise")
    laws = {name: law(name) for name in names}

    def grows(name: str, statement: str, order: float) -> Claim:
        return rate(f"{name}_law", statement, counts, laws[name][0], order, 0.05, laws[name][1])

    def falls(name: str, floor: str, statement: str) -> Claim:
        pairs = [excess(every[n][name], every[n][floor]) for n in counts]
        values, bars = zip(*pairs, strict=True)
        return rate(f"{name}_law", statement, counts, values, -1.0, 0.1, bars)

    return Report(
        title="Policy-gradient estimators as the steps shrink",
        statement="With N steps the spread of one path's REINFORCE estimate is ∝ √N, with the "
        "exact V as baseline too; with temporal differences or the Girsanov score it does not "
        "depend on N; with q in closed form, or the Girsanov score times temporal differences, the "
        "variance falls to that of the form integrated over actions, the excess like 1/N.",
        assumptions="Linear-quadratic, one state, Gaussian policy of std 0.3 or 0; exact V.",
        source="docs/theory, policy gradient.",
        code=(
            "ctcontrol.rollout_gradient",
            "ctcontrol.MonteCarloAdvantage",
            "ctcontrol.TemporalDifferenceAdvantage",
            "ctcontrol.advantages.ItoAdvantage",
        ),
        claims=(
            grows("reinforce", "score × total return: spread ∝ √N", 0.5),
            grows("baseline", "score × (return to go − V): spread ∝ √N", 0.5),
            grows("differences", "score × temporal difference: spread flat in N", 0.0),
            grows("girsanov", "Girsanov score × total return: spread flat in N", 0.0),
            grows("pathwise", "through the rollout: spread flat in N", 0.0),
            falls("closed", "integrated", "score × q in closed form: excess variance ∝ 1/N"),
            falls("weighted", "along", "Girsanov × temporal difference: excess variance ∝ 1/N"),
            *_means(counts[1], every, tangents),
            *_levels(counts, laws),
            _paths(every[counts[-1]], pick(size, 1e5, 1e6)),
        ),
        plot=Plot(
            "Spread of one path's gradient estimate",
            "steps N",
            "standard deviation",
            tuple(Series(LEGEND[name], counts, *laws[name]) for name in names),
            log_x=True,
            log_y=True,
        ),
    )


LEGEND = {
    "reinforce": "REINFORCE",
    "baseline": "REINFORCE, to go, baseline V",
    "differences": "temporal differences",
    "girsanov": "Girsanov score, total return",
    "closed": "q in closed form",
    "weighted": "Girsanov score, temporal differences",
    "pathwise": "through the rollout",
}


def _means(
    steps: int, every: dict[int, dict[str, Tensor]], tangents: dict[int, Estimate]
) -> list[Claim]:
    """Who is unbiased for the chain."""
    chain = regulator().chain(TimeGrid.uniform(1.0, steps).times.numpy())
    unbiased = {
        STD: ("reinforce", "baseline", "differences"),
        0.0: ("girsanov", "weighted", "pathwise"),
    }
    found = {name: Estimate.of(values) for name, values in every[steps].items()}
    found["pathwise"] = tangents[steps]
    out: list[Claim] = []
    for std, names in unbiased.items():
        truth = float(chain.gradient(LinearGaussianPolicy([[GAIN]], std=std)).gain[0, 0])
        for name in names:
            text = f"{LEGEND[name]}: unbiased at {steps} steps"
            out.append(sampled(f"{name}_mean", text, found[name], truth))
    return out


def _levels(counts: Sequence[int], laws: dict[str, tuple[list[float], list[float]]]) -> list[Claim]:
    """The spreads as first measured; of the sizes at hand the coarsest and the finest."""
    out: list[Claim] = []
    for steps in (counts[0], counts[-1]):
        for name, level in LEVELS[steps].items():
            value, bar = (column[counts.index(steps)] for column in laws[name])
            text = f"{LEGEND[name]}: spread at {steps} steps, in units of an earlier measurement"
            out.append(Claim(f"{name}_at_{steps}", text, 1.0, value / level, bar / level, 0.2))
    return out


def _paths(found: dict[str, Tensor], bound: float) -> Claim:
    (worst, a), (best, b) = spread(found["reinforce"]), spread(found["closed"])
    ratio = (worst / best) ** 2
    error = 2 * ratio * ((a / worst) ** 2 + (b / best) ** 2) ** 0.5
    text = "REINFORCE needs this many times the paths of q in closed form, on the finest grid"
    return at_least("paths", text, ratio, bound, error)
