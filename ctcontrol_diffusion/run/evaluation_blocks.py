"""Parts of a page that show evaluations: curves over steps, KL of each step, image statistics."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from ctcontrol_diffusion.report import blocks as b
from ctcontrol_diffusion.report.curves import Curve, figure, figures
from ctcontrol_diffusion.run.looks import LOOK
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.table import Comparison, compare
from ctcontrol_diffusion.run.wording import pair, plain

Rows = Sequence[dict[str, Any]]
LINES = 4
"""Curves in one figure, at most."""
WORST, BEST = 8, 3
"""Prompts shown of each end."""


def comparison_table(both: Comparison) -> str:
    """Labels, then every number before and after; a side that is nowhere there is left out."""
    sides = [
        side for side in (0, 1) if any(c[side][0] is not None for _, cs in both.rows for c in cs)
    ]
    parts = tuple(("before", "after")[side] for side in sides) if len(sides) == 2 else ()
    return b.table(
        [plain(label) for label in both.labels],
        [b.Column(both.title(number), parts) for number in both.numbers],
        [
            (names, [pair(*cell[side]) for cell in cells for side in sides])
            for names, cells in both.rows
        ],
    )


def statistics_table(before: Rows, after: Rows) -> str:
    """The statistics of the images, before and after."""

    def only(rows: Rows) -> list[dict[str, Any]]:
        return [
            {"labels": row["labels"], "numbers": row["statistics"]}
            for row in rows
            if "statistics" in row
        ]

    return comparison_table(compare({"before": only(before), "after": only(after)}))


def curves_over_steps(rows: Rows, titles: dict[str, str] | None = None) -> str:
    """Each number over the step counts, a line a sampler, with bands of ± 2 standard errors."""
    if len({row["labels"].get("steps") for row in rows}) < 2:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row["numbers"]))
    drawn: list[str] = []
    for name in names:
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            if name in row["numbers"]:
                lines.setdefault(_line(row), []).append(row)
        for some in _chunks(lines.items()):
            curves = [_over_steps(label, line, name) for label, line in some]
            drawn.append(figure((titles or {}).get(name, plain(name)), *curves, x="steps"))
    return figures(*drawn)


def _over_steps(label: str, rows: Rows, name: str) -> Curve:
    rows = sorted(rows, key=lambda row: row["labels"]["steps"])
    numbers = [row["numbers"][name] for row in rows]
    return Curve(
        label,
        [row["labels"]["steps"] for row in rows],
        [number["value"] for number in numbers],
        [number["stderr"] for number in numbers],
    )


def _line(row: dict[str, Any]) -> str:
    return ", ".join(str(value) for name, value in row["labels"].items() if name != "steps")


def kl_curves(rows: Rows) -> str:
    """KL to the pretrained model of each step, from noise to sample, a line a number of steps."""
    moved = [row for row in rows if any(step["value"] for step in row.get("kl_steps", ()))]
    return figures(
        *(
            figure(
                "KL of each step, nats",
                *(
                    Curve(
                        ", ".join(map(str, row["labels"].values())),
                        # the middle of the step, so that all numbers of steps share an abscissa
                        [(k + 0.5) / len(row["kl_steps"]) for k in range(len(row["kl_steps"]))],
                        [step["value"] for step in row["kl_steps"]],
                        [step["stderr"] for step in row["kl_steps"]],
                    )
                    for row in some
                ),
                x="share of the way from noise to sample",
                whole=False,
            )
            for some in _chunks(moved)
        )
    )


def watched_curves(records: list[Record]) -> str:
    """What the looks on the way saw, of the policy after so many iterations."""
    names = list(dict.fromkeys(k for record in records for k in record if k.startswith(LOOK)))
    drawn: list[str] = []
    for name in names:
        seen = [record for record in records if name in record]
        means, errors = ([r[name][part] for r in seen] for part in ("mean", "stderr"))
        x = [record["iteration"] + 1 for record in seen]
        title = plain(name.removeprefix(LOOK))
        drawn.append(figure(title, Curve(title, x, means, errors), x="iterations done"))
    return figures(*drawn)


def prompt_table(before: Rows, after: Rows) -> str:
    """The worst and the best prompts by mean reward, of the first cell of each group."""
    base = {str(row["labels"]): row.get("prompts", []) for row in before}
    lines: list[tuple[list[str], list[str]]] = []
    for group in dict.fromkeys(row["labels"].get("prompts", "") for row in after):
        row = next(row for row in after if row["labels"].get("prompts", "") == group)
        was = {entry["prompt"]: entry for entry in base.get(str(row["labels"]), [])}
        entries = row.get("prompts", [])
        if len(entries) > WORST + BEST:
            entries = entries[:WORST] + entries[-BEST:]
        lines += [([group, e["prompt"]], _fares(e, was.get(e["prompt"]))) for e in entries]
    columns = [b.Column("images"), b.Column("reward", ("before", "after"))]
    columns += [b.Column(name) for name in ("spread", "least", "most")]
    return b.table(["", "prompt"], columns, lines)


def _fares(entry: dict[str, Any], was: dict[str, Any] | None) -> list[str]:
    def mean(some: dict[str, Any]) -> str:
        return pair(some["mean"], some["std"] / some["count"] ** 0.5)

    spread = [pair(entry[name], None) for name in ("std", "least", "most")]
    return [str(entry["count"]), mean(was) if was else "–", mean(entry), *spread]


def _chunks(some: Iterable[Any]) -> Iterable[list[Any]]:
    rest = iter(some)
    while part := list(islice(rest, LINES)):
        yield part
