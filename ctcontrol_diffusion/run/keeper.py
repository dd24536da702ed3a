"""Which checkpoints of a run are kept, and which one it continues from."""

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.run.checkpoint import (
    CheckpointError,
    Counters,
    load_checkpoint,
    save_checkpoint,
    set_aside,
)
from ctcontrol_diffusion.run.looks import looks
from ctcontrol_diffusion.run.metrics import Record

KEPT = 2
"""Newest checkpoints kept besides the best."""


class Keeper:
    """The folder checkpoints/ of a run.

    Args:
        folder: that one.
        judged_by: the held-out reward that says which is best; the mean return if None.
    """

    def __init__(self, folder: Path, judged_by: str | None = None) -> None:
        self.folder = folder
        self.judged_by = judged_by

    def numbers(self) -> list[int]:
        """Iterations done at each checkpoint, ascending."""
        if not self.folder.is_dir():
            return []
        return sorted(int(p.name) for p in self.folder.iterdir() if p.name.isdecimal())

    def path(self, number: int) -> Path:
        """The checkpoint after `number` iterations."""
        return self.folder / f"{number:06d}"

    def best(self, records: list[Record]) -> int | None:
        """The checkpoint with the highest mean return, as the *next* rollout measured it.

        Or with the highest mean of the held-out reward `judged_by`.
        """
        if self.judged_by is not None:
            seen = dict(looks(records, self.judged_by))
            there = [number for number in self.numbers() if number in seen]
            return max(there, key=lambda number: (seen[number], -number)) if there else None
        scores = {
            record["iteration"]: record["returns"]["mean"]
            for record in records
            if record["returns"]["mean"] is not None
        }
        scored = [number for number in self.numbers() if number in scores]
        return max(scored, key=lambda number: scores[number]) if scored else None

    def save(self, experiment: Experiment, counters: Counters, records: list[Record]) -> None:
        """Add a checkpoint, then remove those that are neither among the last two nor the best."""
        save_checkpoint(self.folder, experiment, counters)
        keep = {*self.numbers()[-KEPT:], self.best(records)}
        for number in self.numbers():
            if number not in keep:
                rmtree(self.path(number), ignore_errors=True)

    def restore(self, experiment: Experiment, warn: Callable[[str], None]) -> Counters:
        """Load the newest checkpoint that can be used; a fresh start where there never was one.

        Raises:
            CheckpointError: there are checkpoints and none can be used.
        """
        self._clear_leftovers()
        reasons: list[str] = []
        for number in reversed(self.numbers()):
            try:
                counters = load_checkpoint(self.path(number), experiment)
            except CheckpointError as error:
                reasons.append(str(error))
                continue
            for newer in [n for n in self.numbers() if n > number]:
                set_aside(self.path(newer))
            for reason in reasons:
                warn(f"{reason}; continuing from the checkpoint before it, {number:06d}")
            return counters
        if reasons:
            raise CheckpointError(
                f"no checkpoint can be used: {reasons[0]}; start a new run, or bring back "
                f"{self.folder} from a copy"
            )
        return Counters()

    def _clear_leftovers(self) -> None:
        """Remove what a crash left behind while it was being written."""
        for leftover in self.folder.glob(".*.tmp") if self.folder.is_dir() else []:
            rmtree(leftover, ignore_errors=True)
