"""What the looks in the records of a run say: which was the best, and whether to go on."""

from typing import Any

from ctcontrol_diffusion.config import Evaluation
from ctcontrol_diffusion.run.metrics import Record

LOOK, DRIFT = "watch/", "drift/"
"""What the names begin with, in a record, of what was seen and of how far it drifted."""


def tag(name: str) -> str:
    """A name in one word, as metrics have it."""
    return name.replace(" ", "_")


def looks(records: list[Record], name: str) -> list[tuple[int, float]]:
    """(iterations done, mean) of every look at what is called `name`."""
    key = LOOK + tag(name)
    seen = [(record["iteration"] + 1, record[key]["mean"]) for record in records if key in record]
    return [(iterations, mean) for iterations, mean in seen if mean is not None]


def best_look(records: list[Record], name: str) -> int | None:
    """Iterations done at the look with the highest mean, the first of several."""
    seen = looks(records, name)
    return max(seen, key=lambda entry: (entry[1], -entry[0]))[0] if seen else None


def gave_up(records: list[Record], evaluation: Evaluation) -> bool:
    """Whether `evaluation.patience` looks in a row gave no new best of `evaluation.stop_on`.

    Of the records alone, so that a resumed run decides likewise.
    """
    if evaluation.stop_on is None:
        return False
    best = best_look(records, evaluation.stop_on)
    later = [n for n, _ in looks(records, evaluation.stop_on) if best is not None and n > best]
    return len(later) >= evaluation.patience


def alarms(records: list[Record]) -> dict[str, dict[str, Any]]:
    """name -> drift, as the last look recorded it, of what was alarming then."""
    last = next((r for r in reversed(records) if any(k.startswith(DRIFT) for k in r)), {})
    return {
        key.removeprefix(DRIFT): drift
        for key, drift in last.items()
        if key.startswith(DRIFT) and drift["alarming"]
    }
