"""The metrics as TensorBoard events."""

import time
from collections.abc import Iterator
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import (
    Event,  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
    SessionLog,  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
)
from tensorboard.compat.proto.summary_pb2 import (
    Summary,  # pyright: ignore[reportAttributeAccessIssue]  # made when it is imported
)
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from ctcontrol_diffusion.run.metrics import Record


class TensorBoard:
    """Writes scalars below a folder.

    Args:
        folder: one file is added to it.
        start: points from this iteration on, written before a restart, are to be forgotten.
    """

    def __init__(self, folder: Path, start: int) -> None:
        _wait_for_a_later_name(folder)
        self.writer = EventFileWriter(str(folder))
        session = SessionLog(status=SessionLog.START)
        self.writer.add_event(Event(wall_time=time.time(), step=start, session_log=session))

    def add(self, record: Record) -> None:
        """One point in every curve."""
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(record)]
        self.writer.add_event(
            Event(wall_time=time.time(), step=record["iteration"], summary=Summary(value=values))
        )

    def flush(self) -> None:
        """Write what is waiting."""
        self.writer.flush()

    def close(self) -> None:
        """Write what is left; raises `OSError` if that fails."""
        self.writer.close()


def _wait_for_a_later_name(folder: Path) -> None:
    """Files are read in the order of their names, which begin with the second they were made in."""
    made = [file.name.split(".")[3] for file in folder.glob("events.out.tfevents.*")]
    latest = max((int(second) for second in made if second.isdecimal()), default=0)
    while 0 <= latest - int(time.time()) < 5:  # a clock that was set back is not waited for
        time.sleep(0.05)


def scalars(record: Record) -> Iterator[tuple[str, float]]:
    """(tag, value) of every number of a record that is there."""
    for name, value in record.items():
        if name == "iteration":
            continue
        named = value.items() if isinstance(value, dict) else [("", value)]
        for part, number in named:
            if number is not None:
                yield f"{name}/{part}" if part else name, float(number)
