"""Numbers as tables in Markdown, as a figure, and as the machine they come from."""

import datetime
import io
import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.promises import PROMISES, scaling
from benchmarks.rivals import CONTENDERS, OURS

Record = dict[str, Any]
RIVALS = tuple(name for name in CONTENDERS if name != OURS)
SHOWN = ("torch", "torchsde", "diffrax", "jax", "numpy")
MARKERS = re.compile(r"(<!-- benchmarks: begin -->\n).*?(<!-- benchmarks: end -->)", re.DOTALL)


def machine(load: float) -> Record:
    """Where and when, and in what company."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in SHOWN},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", info.read_text()) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def filled(page: str, found: Record) -> str:
    """The page with new tables between its markers."""
    return MARKERS.sub(lambda m: f"{m[1]}\n{tables(found)}\n\n{m[2]}", page)


def tables(found: Record) -> str:
    """Everything that was measured."""
    parts = [_about(found)]
    if "one_thread" in found:
        parts += ["### One thread", _speeds(found["one_thread"])]
    if "all_cores" in found:
        parts += ["### All cores", _speeds(found["all_cores"])]
    if "memory" in found:
        parts += ["### Memory", _memory(found["memory"])]
    if "scale" in found:
        parts += ["### Number of paths", _scale(found["scale"])]
    if "seeds" in found:
        parts += ["### Ten seeds at once", _seeds(found["seeds"])]
    if "variance" in found:
        parts += ["### Estimates of a value", _variance(found["variance"])]
    parts += ["### What is promised", _promises(found)]
    return "\n\n".join(parts)


def _about(found: Record) -> str:
    about = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    load = " to ".join(map(str, about["load"]))
    return (
        f"{about['processor']}, {about['cores']} cores, {about['system']}, load {load}, "
        f"{about['date']}. Python {about['python']}, {versions}. "
        f"Made by `{found['command']}`. On a GPU: not measured."
    )


def _grid(head: list[str], rows: list[list[str]]) -> str:
    line = "|---" + "|--:" * (len(head) - 1) + "|"
    return "\n".join(f"| {' | '.join(row)} |" if row else line for row in [head, [], *rows])


def _speeds(rows: list[Record]) -> str:
    """Ours in million path-steps a second, and how many times longer each rival takes."""
    by_case: dict[str, dict[str, Record]] = {}
    for row in rows:
        by_case.setdefault(row["case"], {})[row["contender"]] = row
    lines: list[list[str]] = []
    for case, contest in by_case.items():
        timed = [row for row in contest.values() if "ours" in row]
        rate = "—"
        if timed:
            ours = min(row["ours"] for row in timed)
            rate = f"{timed[0]['batch'] * timed[0]['steps'] / ours / 1e6:.3g}"
        lines.append([case, rate, *(_ratio(contest.get(name)) for name in RIVALS)])
    return _grid(["case", f"{OURS}, 10⁶ path-steps/s", *RIVALS], lines)


def _ratio(row: Record | None) -> str:
    if row is None or "ratio" not in row:
        reason = (row or {}).get("skipped", "")
        return "—" if not reason or reason == "cannot" else f"— ({reason})"
    return f"{row['ratio']:.2f} ({row['low']:.2f}–{row['high']:.2f})"


def _memory(rows: list[Record]) -> str:
    by_case: dict[str, dict[str, Record]] = {}
    for row in rows:
        by_case.setdefault(row["case"], {})[row["contender"]] = row
    lines = [
        [case, *(_megabytes(contest.get(name)) for name in CONTENDERS)]
        for case, contest in by_case.items()
    ]
    return _grid(["MB above the loaded libraries", *CONTENDERS], lines)


def _megabytes(row: Record | None) -> str:
    return f"{row['extra']:.0f}" if row and "extra" in row else "—"


def _scale(rows: list[Record]) -> str:
    sizes = sorted({row["batch"] for row in rows})
    lines = [
        [about, *(f"{per_path[n] * 1e9:.1f}" for n in sizes)]
        for about, per_path in scaling(rows).items()
    ]
    return _grid(["ns a path and step", *(f"{n:.0e} paths" for n in sizes)], lines)


def _seeds(rows: list[Record]) -> str:
    lines = [
        [f"{row['case']}, {row['study']}", f"{row['ours'] * 1e3:.3g}", _ratio(row)] for row in rows
    ]
    return _grid(["study", "one seed, CPU ms", "ten, times one"], lines)


def _variance(rows: list[Record]) -> str:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["model"], row["method"]): f"{row['gain_at_equal_time']:,.3g}" for row in rows}
    lines = [
        [model, *(found.get((model, method), "—") for method in methods)]
        for model in dict.fromkeys(row["model"] for row in rows)
    ]
    return _grid(["mean square error, times better at equal time", *methods], lines)


def _promises(found: Record) -> str:
    lines = [[p.text, f"{p.sign} {p.bound:g}", *p.verdict(found)] for p in PROMISES]
    return _grid(["promise", "bound", "least favourable case", "kept"], lines)


def figure(found: Record) -> bytes:
    """How many times longer each rival takes, one row a case."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in found["one_thread"] if "ratio" in row]
    names = list(dict.fromkeys(row["case"] for row in rows))
    canvas = FigureCanvasAgg(Figure(figsize=(8, 1 + 0.32 * len(names)), layout="constrained"))
    axes = canvas.figure.add_subplot()
    for index, name in enumerate(RIVALS):
        mine = [row for row in rows if row["contender"] == name]
        heights = [names.index(row["case"]) for row in mine]
        axes.plot(
            [row["ratio"] for row in mine], heights, "os^vDPX"[index], label=name, markersize=5
        )
    axes.axvline(1.0, color="#57606a", linestyle="--", linewidth=1)
    axes.set(xscale="log", xlabel=f"CPU seconds over those of {OURS}, one thread")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    buffer = io.BytesIO()
    canvas.print_png(buffer, metadata={"Software": ""})
    return buffer.getvalue()
