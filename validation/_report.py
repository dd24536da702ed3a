"""What a validation says: claims with numbers, error bars and tolerances, and one plot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from ctcontrol import Estimate

Size = Literal["small", "full"]
"""How much is computed: `small` for the tests, `full` for the documentation."""
Relation = Literal["=", "≤", "≥"]
T = TypeVar("T")

IDENTITY = 1e-9
"""Tolerance of what holds exactly, relative for numbers above one."""
Z = 4.5
"""Standard errors that a sampled number may be away from the truth."""


@dataclass(frozen=True)
class Claim:
    """One number held against another.

    Attributes:
        name: within its theorem; letters, digits and underscores.
        statement: what is claimed, in a line.
        expected: the number it is held against.
        estimate: what was found.
        stderr: its standard error; 0 where nothing is random.
        tolerance: how far the estimate may be on the wrong side.
        relation: `=`, or that the estimate is at most or at least the expected number.
    """

    name: str
    statement: str
    expected: float
    estimate: float
    stderr: float
    tolerance: float
    relation: Relation = "="

    @property
    def passed(self) -> bool:
        """Whether the numbers bear the claim out; what is not finite never does."""
        gap = self.estimate - self.expected
        miss = {"=": abs(gap), "≤": gap, "≥": -gap}[self.relation]
        held = math.isfinite(miss) and math.isfinite(self.stderr) and miss <= self.tolerance
        return bool(held)  # numbers of numpy would make it one of numpy's


@dataclass(frozen=True)
class Series:
    """A line of a plot.

    Attributes:
        name: in the legend.
        x: abscissae.
        y: ordinates.
        stderr: of the ordinates, drawn as bars of ± 2; empty for none.
        reference: draw it as what theory predicts, a broken line without markers.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    stderr: Sequence[float] = ()
    reference: bool = False


@dataclass(frozen=True)
class Plot:
    """The figure of a theorem.

    Attributes:
        title: what is seen.
        x: name of the abscissa, with its unit.
        y: name of the ordinate, with its unit.
        series: the lines.
        log_x, log_y: logarithmic axes.
    """

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Report:
    """A theorem, and what was seen of it.

    Attributes:
        title: its name.
        statement: what it says, in plain text.
        assumptions: under which.
        source: paper and section.
        code: dotted names in the library that compute it.
        claims: at least one.
        plot: the figure.
    """

    title: str
    statement: str
    assumptions: str
    source: str
    code: tuple[str, ...]
    claims: tuple[Claim, ...]
    plot: Plot


def pick(size: Size, small: T, full: T) -> T:
    """What belongs to the size."""
    return full if size == "full" else small


def equal(
    name: str, statement: str, estimate: float, expected: float, tolerance: float = IDENTITY
) -> Claim:
    """A number known without chance; the tolerance is relative where the number is above one."""
    scale = max(1.0, abs(float(expected))) if tolerance == IDENTITY else 1.0
    return Claim(name, statement, float(expected), float(estimate), 0.0, tolerance * scale)


def sampled(name: str, statement: str, estimate: Estimate, expected: float) -> Claim:
    """A Monte-Carlo mean and the exact mean of what was simulated: Z standard errors, no more."""
    tolerance = Z * estimate.stderr
    return Claim(name, statement, float(expected), estimate.mean, estimate.stderr, tolerance)


def at_most(name: str, statement: str, estimate: float, bound: float, stderr: float = 0.0) -> Claim:
    """An inequality; a sampled number may miss it by Z standard errors."""
    slack = Z * stderr
    return Claim(name, statement, float(bound), float(estimate), stderr, slack, relation="≤")


def at_least(
    name: str, statement: str, estimate: float, bound: float, stderr: float = 0.0
) -> Claim:
    """Likewise, from below."""
    slack = Z * stderr
    return Claim(name, statement, float(bound), float(estimate), stderr, slack, relation="≥")


def rate(
    name: str,
    statement: str,
    sizes: Sequence[float],
    errors: Sequence[float],
    order: float,
    margin: float = 0.1,
    stderrs: Sequence[float] = (),
) -> Claim:
    """error ∝ size^order: the fitted slope, within `margin` and Z standard errors of sampling.

    Without `stderrs` nothing is random; the standard error shown is then that of the fit, and
    the tolerance is the margin alone.
    """
    fit = slope(sizes, errors, stderrs)
    tolerance = margin + (Z * fit.stderr if stderrs else 0.0)
    return Claim(name, statement, order, fit.mean, fit.stderr, tolerance)


def order(
    name: str, statement: str, sizes: Sequence[float], errors: Sequence[float], expected: float
) -> Claim:
    """error ∝ size^order where nothing is random: no margin is chosen, the sizes give it.

    With error = c·size^p(1 + O(size)) the slopes between neighbours tend to p like the size. Of
    sizes r times smaller each the last slope is off by its last change over r − 1: that is
    taken out, and the size of what is taken out is the tolerance.
    """
    logs = [(math.log(s), math.log(abs(e))) for s, e in zip(sizes, errors, strict=True)]
    steps = [(b - d) / (a - c) for (a, b), (c, d) in zip(logs[-3:-1], logs[-2:], strict=True)]
    rest = (steps[1] - steps[0]) / (sizes[-2] / sizes[-1] - 1)
    return Claim(name, statement, expected, steps[1] + rest, 0.0, abs(rest) + IDENTITY)


def slope(
    sizes: Sequence[float], errors: Sequence[float], stderrs: Sequence[float] = ()
) -> Estimate:
    """The slope of log |error| against log size, by least squares.

    Its standard error comes from those of the errors (weighted fit), else from the residuals.
    """
    x = [math.log(size) for size in sizes]
    y = [math.log(abs(error)) for error in errors]
    spread = (
        [s / abs(e) for s, e in zip(stderrs, errors, strict=True)] if stderrs else [1.0] * len(x)
    )
    w = [1 / s**2 for s in spread]
    total = sum(w)
    mx = sum(a * b for a, b in zip(w, x, strict=True)) / total
    my = sum(a * b for a, b in zip(w, y, strict=True)) / total
    sxx = sum(a * (b - mx) ** 2 for a, b in zip(w, x, strict=True))
    fitted = sum(a * (b - mx) * (c - my) for a, b, c in zip(w, x, y, strict=True)) / sxx
    if stderrs:
        return Estimate(fitted, sxx**-0.5, len(x))
    rest = [c - my - fitted * (b - mx) for b, c in zip(x, y, strict=True)]
    freedom = max(1, len(x) - 2)
    return Estimate(fitted, math.sqrt(sum(r * r for r in rest) / freedom / sxx), len(x))


def power(name: str, x: Sequence[float], through: float, order: float) -> Series:
    """The reference line c·x^order through (x[-1], `through`)."""
    return Series(name, tuple(x), tuple(through * (a / x[-1]) ** order for a in x), reference=True)
