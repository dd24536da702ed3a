"""What one training comes to, and the file that keeps what is finished."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.run.files import finite, to_json, write_atomically

BEFORE = "before"
"""Stands for the preset where nothing was trained."""


@dataclass(frozen=True)
class Cell:
    """A measurement.

    Attributes:
        labels: what was measured, e.g. {"sampler": "SDE", "steps": 10}.
        numbers: name -> mean over samples.
    """

    labels: dict[str, Any]
    numbers: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """One trained model, or the model before training.

    Attributes:
        preset: its name, or `BEFORE`.
        seed: its seed.
        images: sampled in training.
        seconds: median duration of an iteration; None where there was none.
        cells: of the evaluation.
    """

    preset: str
    seed: int
    images: int
    seconds: float | None
    cells: tuple[Cell, ...]


def write_outcomes(
    path: Path, outcomes: Sequence[Outcome], about: Mapping[str, Any], command: str
) -> None:
    """Replace the file; raises `OSError` if it cannot be written."""
    content = {"command": command, **about, "runs": [asdict(one) for one in outcomes]}
    write_atomically(path, to_json(content, indent=1) + "\n")


def read_outcomes(path: Path, about: Mapping[str, Any]) -> list[Outcome]:
    """The finished runs in a file; none if it is not there.

    Raises:
        CtcontrolError: it holds something else, or runs of other configs or evaluations.
    """
    try:
        content = json.loads(path.read_bytes())
        runs = [_outcome(run) for run in content["runs"]]
        same = {key: content[key] for key in about} == finite(dict(about))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CtcontrolError(
            f"--out {path} holds something else ({type(error).__name__}: {error}); give another"
        ) from None
    if not same:
        raise CtcontrolError(
            f"--out {path} holds runs of other configs or evaluations; give another"
        )
    return runs


def _outcome(run: dict[str, Any]) -> Outcome:
    cells = tuple(Cell(cell["labels"], cell["numbers"]) for cell in run["cells"])
    return Outcome(run["preset"], run["seed"], run["images"], run["seconds"], cells)
