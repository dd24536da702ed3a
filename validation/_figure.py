"""The figure of a theorem, as a PNG."""

import io

from matplotlib import rc_context
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from validation._report import Plot

_COLORS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700")
_LINES = (("-", "o"), ("--", "s"), (":", "^"))
"""Line and marker of the first five series, the next five, and so on."""
_INSIDE = 5
"""More series than this have their names beside the picture."""
_STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "lines.linewidth": 1.8,
}


def draw(plot: Plot) -> bytes:
    """PNG bytes; the same for the same numbers."""
    with rc_context(_STYLE):  # type: ignore[arg-type]  # matplotlib wants literal keys
        many = len(plot.series) > _INSIDE
        size = (8.6 if many else 6.4, 3.8)
        figure = Figure(figsize=size, layout="constrained", dpi=110)
        canvas = FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for index, series in enumerate(plot.series):
            if series.reference:
                axes.plot(series.x, series.y, color="#57606a", ls=(0, (4, 3)), label=series.name)
                continue
            color = _COLORS[index % len(_COLORS)]
            line, marker = _LINES[index // len(_COLORS) % len(_LINES)]
            bars = [2 * s for s in series.stderr] or None
            axes.errorbar(
                series.x,
                series.y,
                bars,
                color=color,
                ls=line,
                marker=marker if len(series.x) < 30 else "",
                markersize=4,
                capsize=2,
                label=series.name,
            )
        if plot.log_x:
            axes.set_xscale("log")
            _label_decades(axes.xaxis, [x for series in plot.series for x in series.x])
        if plot.log_y:
            axes.set_yscale("log")
            _label_decades(axes.yaxis, [abs(y) for series in plot.series for y in series.y])
        axes.set(title=plot.title, xlabel=plot.x, ylabel=plot.y)
        if many:
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        else:
            axes.legend(frameon=False, fontsize=9)
        buffer = io.BytesIO()
        canvas.print_png(buffer, metadata={"Software": ""})
    return buffer.getvalue()


def _label_decades(axis: Axis, values: list[float]) -> None:
    """Ticks at powers of ten, or at 1, 2 and 5 where there are few; no labels that collide."""
    few = max(values) < 50 * min(values)
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
