"""The table of several trainings."""

import statistics
from collections.abc import Sequence

from ctcontrol_diffusion.compare._outcome import Outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table: mean ± standard error over the seeds, a line for every preset and cell."""
    labels = list(outcomes[0].cells[0].labels)
    keys = list(dict.fromkeys(k for o in outcomes for cell in o.cells for k in cell.numbers))
    head = ["preset", "seeds", "images", *labels, *keys, "seconds/iteration"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(outcome.preset for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.preset == name]
        seconds = mean_and_error([o.seconds for o in mine if o.seconds is not None])
        for row, cell in enumerate(mine[0].cells):
            shown = [str(value) for value in cell.labels.values()]
            cells = [outcome.cells[row].numbers for outcome in mine]
            columns = [mean_and_error([c[key] for c in cells if key in c]) for key in keys]
            words = [name, str(len(mine)), str(mine[0].images), *shown, *columns, seconds]
            lines.append("| " + " | ".join(words) + " |")
    return "\n".join(lines)


def mean_and_error(values: Sequence[float]) -> str:
    """`2 ± 1`, without the error for one value, and a dash for none."""
    if not values:
        return "–"
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {statistics.stdev(values) / len(values) ** 0.5:.2g}"


def line(outcome: Outcome) -> str:
    """One run in a line: its cells, and how fast it was."""
    parts = [f"{outcome.preset} seed {outcome.seed}"]
    for cell in outcome.cells:
        labels = " ".join(str(value) for value in cell.labels.values())
        numbers = "  ".join(f"{key} {value:.3g}" for key, value in cell.numbers.items())
        parts.append(f"{labels}: {numbers}")
    seconds = "" if outcome.seconds is None else f"; {outcome.seconds:.2f} s/iteration"
    return "; ".join(parts) + seconds
