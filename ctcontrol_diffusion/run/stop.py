"""How a run ends before its end."""

from pathlib import Path


class Stopped(Exception):
    """Asked to stop; everything is saved."""


class Failed(Exception):
    """Something went wrong in the middle; the message is for people.

    Attributes:
        batch: file with what was being worked on, if there was anything.
    """

    def __init__(self, message: str, batch: Path | None = None) -> None:
        super().__init__(message)
        self.batch = batch
