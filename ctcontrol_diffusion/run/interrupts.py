"""Ctrl-C at the right moment: after the iteration, not in the middle of an update."""

import os
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = b"\nstopping after this iteration; once more to stop at once\n"


class Stopped(Exception):
    """Asked to stop; everything is saved."""


class Interrupts:
    """Turns SIGINT and SIGTERM into `KeyboardInterrupt`, but not inside `deferred()`.

    There the first signal is kept until the block is over; a second one stops at once. One that was
    raised is remembered too: code that swallows every exception may have swallowed it.

    Args:
        quiet: do not say that the end of the iteration is waited for.
        echo: seconds in which a second signal is the echo of the first: launchers hand Ctrl-C on to
            processes that the terminal has told already.

    Attributes:
        waiting: there was a signal.
    """

    def __init__(self, *, quiet: bool = False, echo: float = 0.0) -> None:
        self.quiet, self.echo = quiet, echo
        self.deferring = False
        self.waiting = False
        self._kept = False
        self._heard = float("-inf")

    @contextmanager
    def installed(self) -> Generator["Interrupts"]:
        """Handle the signals inside this block, as before afterwards."""
        before: dict[signal.Signals, Any] = {s: signal.getsignal(s) for s in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._handle)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Generator[None]:
        """Finish this block before stopping; ask `waiting` afterwards."""
        self.deferring = True
        try:
            yield
        finally:
            self.deferring = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now, before = time.monotonic(), self._heard
        if now - before < self.echo:
            return
        self._heard = now
        self.waiting = True
        if not self.deferring or self._kept:
            raise KeyboardInterrupt
        self._kept = True
        if not self.quiet:
            os.write(2, NOTICE)  # print may be busy with another line, and cannot be entered twice
