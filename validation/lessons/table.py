"""The claims of learning as one Markdown table: a row a method, a column a problem."""

from collections.abc import Mapping, Sequence
from typing import Any

from validation.lessons.methods import METHODS


def markdown(claims: Sequence[Mapping[str, Any]], titles: Mapping[str, str]) -> str:
    """Regret at the end over that at the start, mean ± standard error of the seeds.

    A dash where the method does not apply; what misses its claim is set in bold.

    Args:
        claims: those of the JSON of `python -m validation learning`; others are left out.
        titles: name of a course -> heading of its column.
    """
    found = {c["name"]: c for c in claims if c["theorem"] == "learning"}
    lines = [f"| | {' | '.join(titles.values())} |", "|---|" + "---|" * len(titles)]
    for name, method in METHODS.items():
        cells = [_cell(found.get(f"{course}_{name}")) for course in titles]
        lines.append(f"| {method.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(claim: Mapping[str, Any] | None) -> str:
    if claim is None:
        return "–"
    text = f"{claim['estimate']:.2g}"
    if claim["stderr"]:
        text += f" ± {claim['stderr']:.1g}"
    return text if claim["passed"] else f"**{text}**"
