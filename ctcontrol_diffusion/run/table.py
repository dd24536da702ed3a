"""The evaluation as a table: before and after side by side."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from ctcontrol_diffusion.run.wording import pair, plain
from ctcontrol_diffusion.settings import Facts, Row

UNBOUNDED = 10_000
Cell = tuple[float | None, float | None]
"""(value, standard error or None)."""


@dataclass(frozen=True)
class Comparison:
    """Rows of two evaluations matched by their labels.

    Attributes:
        labels: names of the label columns.
        numbers: names of the measured columns.
        rows: label values and, for each number, (before, after).
        titles: numbers that are called otherwise than their names say.
    """

    labels: list[str]
    numbers: list[str]
    rows: list[tuple[list[str], list[tuple[Cell, Cell]]]]
    titles: Mapping[str, str] = field(default_factory=dict[str, str])

    def title(self, number: str) -> str:
        """A measured column's name, for people."""
        return self.titles.get(number, plain(number))


def rows_to_json(rows: list[Row]) -> list[dict[str, Any]]:
    """For evaluation.json."""
    return [row_to_json(row) for row in rows]


def row_to_json(row: Row) -> dict[str, Any]:
    """One line with what is behind it, as far as there is anything."""
    behind = {
        "statistics": _numbers(row.statistics),
        "kl_steps": [{"value": v, "stderr": e} for v, e in row.kl_steps],
        "prompts": [asdict(prompt) for prompt in row.prompts],
    }
    return {"labels": dict(row.labels), "numbers": _numbers(row.numbers)} | {
        name: part for name, part in behind.items() if part
    }


def _numbers(some: Mapping[str, Cell]) -> dict[str, Any]:
    return {name: {"value": value, "stderr": stderr} for name, (value, stderr) in some.items()}


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """For evaluation.json."""
    return {"numbers": _numbers(facts.numbers), "texts": facts.texts}


def compare(evaluation: dict[str, Any]) -> Comparison:
    """Match `before` and `after` of evaluation.json; either may be missing."""
    sides = [evaluation.get("before", []), evaluation.get("after", [])]
    every = [row for side in sides for row in side]
    labels = list(dict.fromkeys(name for row in every for name in row["labels"]))
    numbers = list(dict.fromkeys(name for row in every for name in row["numbers"]))
    keys = list(dict.fromkeys(tuple(map(str, row["labels"].values())) for row in every))
    found = [{tuple(map(str, row["labels"].values())): row for row in side} for side in sides]

    def cell(side: int, key: tuple[str, ...], name: str) -> Cell:
        number = found[side].get(key, {"numbers": {}})["numbers"].get(name, {})
        return number.get("value"), number.get("stderr")

    return Comparison(
        labels,
        numbers,
        [(list(key), [(cell(0, key, n), cell(1, key, n)) for n in numbers]) for key in keys],
        titles_of(evaluation),
    )


def titles_of(evaluation: dict[str, Any]) -> dict[str, str]:
    """What distances are called: proxies with the number of their images, see `RealImages`."""
    distance = evaluation.get("distance")
    return {} if distance is None else {distance["number"]: distance["called"]}


def print_evaluation(console: Console, evaluation: dict[str, Any]) -> None:
    """The table and, below it, what is known without training."""
    both = compare(evaluation)
    wide, narrow = _side_by_side(both), _one_above_the_other(both)
    room = console.options.update(width=UNBOUNDED)
    fits = Measurement.get(console, room, wide).maximum <= console.width
    console.print()
    console.print(wide if fits else narrow)
    console.print()
    for text in fact_sentences(evaluation):
        console.print(text, markup=False, highlight=False, soft_wrap=True)


def _side_by_side(both: Comparison) -> Table:
    table = _labelled(both)
    for number in both.numbers:
        name = both.title(number)
        table.add_column(f"{name}\nbefore", justify="right", style="dim", no_wrap=True)
        table.add_column("\nafter", justify="right", no_wrap=True)
    for labels, cells in both.rows:
        table.add_row(*labels, *(pair(*side) for cell in cells for side in cell))
    return table


def _one_above_the_other(both: Comparison) -> Table:
    table = _labelled(both)
    table.add_column("")
    for number in both.numbers:
        table.add_column(both.title(number), justify="right", no_wrap=True)
    for labels, cells in both.rows:
        before, after = ([pair(*cell[side], digits=1) for cell in cells] for side in (0, 1))
        table.add_row(*labels, "before", *before, style="dim")
        table.add_row(*("" for _ in labels), "after", *after)
    return table


def _labelled(both: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for label in both.labels:
        table.add_column(plain(label), no_wrap=True, vertical="bottom")
    return table


def fact_sentences(evaluation: dict[str, Any]) -> list[str]:
    """`name: value ± error (what it is)` for every fact."""
    facts = evaluation.get("facts", {"numbers": {}, "texts": {}})
    return [
        f"{plain(name)}: {pair(number['value'], number['stderr'])}"
        + (f" ({facts['texts'][name]})" if name in facts["texts"] else "")
        for name, number in facts["numbers"].items()
    ]
