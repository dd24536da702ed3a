"""Errors of value networks as a Markdown table, and as plain numbers."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ctcontrol_diffusion.critics._study import Outcome
from ctcontrol_diffusion.critics._truth import Level, Miss, spread


def markdown(levels: Sequence[Level], outcomes: Sequence[Outcome]) -> str:
    """One row a network: root mean square errors before and after the fit, and what it costs."""
    steps = [f"t = {float(level.t[0]):.2f}" for level in levels]
    heads = ["value network", "learns", "before", "after", *steps, "× DDPO"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    varies = [spread(level) for level in levels]
    constant = [_root([s]) for s in varies]
    lines.append(_line(["*a constant*", "", "", _root(varies), *constant, ""]))
    for outcome in outcomes:
        lines.append(
            _line(
                [
                    outcome.name,
                    f"{outcome.parameters:,}",
                    _root(outcome.before),
                    _root(outcome.after),
                    *(_root([one]) for one in outcome.after),
                    "" if outcome.ratio is None else f"{outcome.ratio:.2f}",
                ]
            )
        )
    return "\n".join(lines)


def numbers(levels: Sequence[Level], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "levels": [
            {
                "node": level.node,
                "t": float(level.t[0]),
                "states": len(level.x),
                "mean_value": float(level.value.mean()),
                "mean_stderr": float(level.stderr.mean()),
                "spread": asdict(spread(level)),
            }
            for level in levels
        ],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


def _root(misses: Sequence[Miss]) -> str:
    """√(mean of squares) ± its standard error, by the delta method; levels are independent."""
    square = sum(m.square for m in misses) / len(misses)
    error = math.sqrt(sum(m.stderr**2 for m in misses)) / len(misses)
    if square <= error:
        return f"< {math.sqrt(max(square, 0) + 2 * error):.2g}"
    root = math.sqrt(square)
    return f"{root:.3f} ± {error / (2 * root):.3f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
