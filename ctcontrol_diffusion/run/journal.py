"""Where the record of each iteration goes: metrics.jsonl, TensorBoard and other trackers."""

from ctcontrol_diffusion.run.directory import RunDirectory
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.tensorboard import TensorBoard
from ctcontrol_diffusion.run.trackers import Trackers


class Journal:
    """Continues the files after `iterations` iterations; what was written beyond is forgotten.

    Attributes:
        records: of all iterations so far.
    """

    def __init__(
        self, directory: RunDirectory, iterations: int, trackers: Trackers | None = None
    ) -> None:
        self.metrics = directory.metrics
        self.records = self.metrics.truncate(iterations)
        self.board = TensorBoard(directory.path / "tensorboard", iterations)
        self.trackers = trackers

    def add(self, record: Record) -> None:
        """Write one iteration."""
        self.metrics.append(record)
        self.records.append(record)
        self.board.add(record)
        if self.trackers is not None:
            self.trackers.add(record)

    def flush(self) -> None:
        """Make everything so far outlive this process."""
        self.board.flush()

    def close(self) -> None:
        """No more iterations."""
        self.board.close()
