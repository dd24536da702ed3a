"""The file of an evaluation: written anew after every cell, so that nothing is measured twice."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ctcontrol_diffusion.inspection import Cell, Drift, Plan, Samples, drifts
from ctcontrol_diffusion.report.tiles import Tiles, sheet, tiles_of
from ctcontrol_diffusion.run.files import to_json, write_atomically
from ctcontrol_diffusion.run.table import row_to_json

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Book:
    """evaluation-MODEL-KEY.json with a folder of that name for images and numbers per image.

    The key is a digest of the question, so that another question (more images, another seed,
    other rewards) never overwrites an answer, and the same one continues where it was left.

    Attributes:
        folder: where it lies.
        model: `base` or the number of iterations, six digits.
        question: all that an answer depends on, besides the cell.
        notes: what else the file says, of no influence on the answers.
    """

    folder: Path
    model: str
    question: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def name(self) -> str:
        """Of the file, without its suffix."""
        text = json.dumps(self.question, sort_keys=True)
        return f"evaluation-{self.model}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    @property
    def path(self) -> Path:
        """The JSON file."""
        return self.folder / f"{self.name}.json"

    @property
    def page(self) -> Path:
        """The HTML file."""
        return self.folder / f"{self.name}.html"

    def cells(self) -> list[dict[str, Any]]:
        """Rows as JSON, in the order in which they were asked for first."""
        try:
            content = json.loads(self.path.read_bytes())
            if content["format"] != FORMAT or content["question"] != self.question:
                raise ValueError
            return content["cells"]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError):
            os.replace(self.path, self.path.with_suffix(".json.unusable"))
            return []

    def rows(self, plan: Plan) -> list[dict[str, Any]]:
        """The rows of the cells of a plan that are there, in its order."""
        known = {name_of(row): row for row in self.cells()}
        return [known[cell.name] for cell in plan.cells() if cell.name in known]

    def missing(self, plan: Plan) -> list[Cell]:
        """Cells of a plan that are to be computed."""
        known = {name_of(row) for row in self.cells()}
        return [c for c in plan.cells() if c.name not in known or self.values(c) is None]

    def values(self, cell: Cell) -> dict[str, Tensor] | None:
        """name -> (n,), the numbers of each image of a cell; None if they are not there."""
        try:
            return load((self.folder / self.name / f"{cell.name}.safetensors").read_bytes())
        except (OSError, SafetensorError):
            return None

    def tiles(self, cell: Cell) -> Tiles | None:
        """The images kept of a cell."""
        row = next((row for row in self.cells() if name_of(row) == cell.name), {})
        try:
            shape = tuple(row["shown"])
            file = self.folder / self.name / f"{cell.name}.png"
            return Tiles.from_sheet(file, [cell.name], shape)
        except (OSError, KeyError, ValueError, TypeError):
            return None

    def add(self, cell: Cell, samples: Samples, plan: Plan, base: "Book | None") -> list[Drift]:
        """Keep a cell, with how its images drifted from those of `base`, and return that."""
        (self.folder / self.name).mkdir(parents=True, exist_ok=True)
        values = {key: value.contiguous() for key, value in samples.values.items()}
        tiles = tiles_of(samples.shown, [cell.name])
        for suffix, content in (("png", sheet(tiles)), ("safetensors", save(values))):
            write_atomically(self.folder / self.name / f"{cell.name}.{suffix}", content)
        before = None if base is None else base.values(cell)
        moved = [] if before is None else drifts(before, samples.values)
        row = row_to_json(samples.row(cell, plan)) | {
            "shown": list(tiles.pixels.shape),
            "drift": {drift.name: drift_to_json(drift) for drift in moved},
        }
        rows = [other for other in self.cells() if name_of(other) != cell.name] + [row]
        self._write(rows, plan)
        return moved

    def _write(self, rows: list[dict[str, Any]], plan: Plan) -> None:
        order = {cell.name: place for place, cell in enumerate(plan.cells())}
        rows = sorted(rows, key=lambda row: order.get(name_of(row), -1))
        content = {"format": FORMAT, "model": self.model, "question": self.question} | self.notes
        write_atomically(self.path, to_json(content | {"cells": rows}, indent=1))


def drift_to_json(drift: Drift) -> dict[str, Any]:
    """Shift with its standard error, in the statistic's unit and in spreads of the base model."""
    return {
        "base": drift.base,
        "shift": drift.shift.mean,
        "stderr": drift.shift.stderr,
        "size": drift.size,
        "alarming": drift.alarming,
        "sentence": str(drift),
    }


def name_of(row: dict[str, Any]) -> str:
    """Name of the cell of a row."""
    return "-".join(map(str, row["labels"].values()))


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether the numbers of every image agree to the last bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
