"""Curves with error bands as SVG that takes its colors from the page."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Drawn in colors that stand for the page's own, so that a page can be light or dark.
_STANDS_FOR = {"#010101": "--ink", "#020202": "--soft", "#030303": "--rule"}
_LINES = {"#040404": "--accent", "#050505": "--second", "#060606": "--third", "#070707": "--fourth"}
DECADES = 100
"""Ratio of the largest to the smallest value from which on the ordinate is logarithmic."""

_INK, _SOFT, _RULE = _STANDS_FOR

_FRAME = (0.12, 0.19, 0.87, 0.74)
"""Left, bottom, width and height of the axes: the same for all, so that figures line up, with room
for labels of seven characters. Fitting them to the labels would draw every figure twice."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.edgecolor": _RULE,
    "axes.labelcolor": _SOFT,
    "axes.linewidth": 1,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "ytick.major.size": 0,
    "lines.linewidth": 2,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Curve:
    """One line.

    Attributes:
        name: in the legend, if there are several.
        x: abscissae.
        y: values; None leaves a gap.
        stderr: standard errors, drawn as a band of ± 2 of them; None for no band.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    stderr: Sequence[float | None] | None = None


@dataclass(frozen=True)
class Level:
    """A horizontal line to compare with.

    Attributes:
        name: in the legend.
        y: where.
    """

    name: str
    y: float


def figure(
    title: str,
    *curves: Curve,
    levels: Sequence[Level] = (),
    x: str = "iteration",
    log: bool = False,
    whole: bool = True,
) -> str:
    """An HTML figure; nothing if no curve has a point.

    Args:
        title: what the ordinate is, with its unit.
        curves: at most four.
        levels: lines to compare with.
        x: what the abscissa is.
        log: make the ordinate logarithmic if the values span decades.
        whole: mark the abscissa at whole numbers only.
    """
    shown = [curve for curve in curves if any(value is not None for value in curve.y)]
    if not shown:
        return ""
    svg = _svg(title, shown, levels, x, log and _spans_decades(shown), whole)
    keys = [(curve.name, color) for curve, color in zip(shown, _LINES.values(), strict=False)]
    legend = "".join(
        f'<span class="legend"><span class="key" style="background: var({color})"></span>'
        f"{escape(name)}</span>"
        for name, color in (keys if len(shown) > 1 or levels else [])
    )
    legend += "".join(f'<span class="legend">┄ {escape(level.name)}</span>' for level in levels)
    band = "bands: ± 2 standard errors" if any(c.stderr for c in shown) else ""
    caption = f"<figcaption>{legend}{band}</figcaption>" if legend or band else ""
    return f'<figure><div class="title">{escape(title)}</div>{svg}{caption}</figure>'


def figures(*some: str) -> str:
    """Figures side by side; nothing if there are none."""
    body = "".join(some)
    return f'<div class="curves">{body}</div>' if body else ""


def _svg(
    title: str, curves: list[Curve], levels: Sequence[Level], x: str, log: bool, whole: bool
) -> str:
    with rc_context({**_STYLE, "svg.hashsalt": title}):
        drawing = Figure(figsize=(5.2, 2.7))
        canvas = FigureCanvasSVG(drawing)
        axes = drawing.add_axes(_FRAME)
        for level in levels:
            axes.axhline(level.y, color=_SOFT, linewidth=1.3, linestyle=(0, (4, 3)))
        for curve, color in zip(curves, _LINES, strict=False):
            y = _numbers(curve.y)
            few = len(curve.x) < 3
            axes.plot(curve.x, y, color=color, marker="o" if few else None, markersize=4)
            if curve.stderr is not None:
                band = 2 * np.nan_to_num(_numbers(curve.stderr))
                axes.fill_between(curve.x, y - band, y + band, color=color, alpha=0.18, linewidth=0)
        if log:
            axes.set_yscale("log")
        axes.set_xlabel(x)
        axes.xaxis.set_major_locator(MaxNLocator(integer=whole, nbins=8))
        axes.margins(x=0.02)
        buffer = io.StringIO()
        canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    return _themed(buffer.getvalue(), title)


def _spans_decades(curves: Sequence[Curve]) -> bool:
    """Whether only a logarithmic ordinate shows both ends."""
    values = [value for curve in curves for value in curve.y if value is not None]
    return min(values) > 0 and max(values) > DECADES * min(values)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _themed(svg: str, title: str) -> str:
    """Without the file's head, background and fonts; colors become variables of the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="patch_[12]">.*?</g>', "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    svg = re.sub(
        r"font: [^;\"]*px[^;\"]*",
        lambda m: m[0].split("px")[0].replace("font:", "font-size:") + "px",
        svg,
    )
    for stand_in, variable in (_STANDS_FOR | _LINES).items():
        svg = svg.replace(stand_in, f"var({variable})")
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1).strip()
