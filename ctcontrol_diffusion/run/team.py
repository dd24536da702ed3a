"""What the processes of a run do together, and what the first of them does for all."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch
from torch import distributed as dist

from ctcontrol import Alone, Collective, CtcontrolError, PeerFailure
from ctcontrol_diffusion.processes import meeting_place

T = TypeVar("T")

NAP = 0.05
"""Seconds between two looks at the notes of the others."""
WORDS = 60.0
"""Seconds that a process waits for another to say what went wrong."""
LAST_WORDS = 5.0
"""The same where the other may be dead."""


class Team:
    """The processes of a run; all call the same methods in the same order.

    The first process writes the files and speaks. Whoever fails first says why, instead of all.

    Args:
        collective: the processes.
    """

    def __init__(self, collective: Collective | None = None) -> None:
        self.collective = collective or Alone()
        self._store: dist.Store | None = meeting_place() if self.collective.size > 1 else None
        self._turns = 0

    @property
    def size(self) -> int:
        """Number of processes."""
        return self.collective.size

    @property
    def leads(self) -> bool:
        """Whether this is the first."""
        return self.collective.rank == 0

    def each(self, work: Callable[[], T]) -> T:
        """Let all do `work`.

        Raises:
            Exception: what `work` raised here.
            PeerFailure: it raised on another process.
        """
        error: Exception | None = None
        done: list[T] = []
        try:
            done.append(work())
        except Exception as raised:
            error = raised
        self.collective.agree(error)
        return done[0]

    def led(self, work: Callable[[], object]) -> None:
        """Let the first process do `work`, however long it takes, while the others wait."""
        self._turns += 1
        key = f"turn {self._turns}"
        if self.leads:
            work()
            self._note(key)
        else:
            self._await(key)

    def told(self, make: Callable[[], str]) -> str:
        """What `make` gives on the first process; raises there as `each` does."""
        text = self.each(lambda: make() if self.leads else "").encode()
        counts = [0] * self.size
        counts[0] = 1
        length = torch.tensor([len(text)])[: counts[self.collective.rank]]
        counts[0] = int(self.collective.gather(length, counts))
        data = torch.tensor(list(text), dtype=torch.uint8)
        return bytes(self.collective.gather(data, counts).tolist()).decode()

    def any(self, flag: bool) -> bool:
        """Whether it is so on some process."""
        return bool(self.collective.gather(torch.tensor([flag]), [1] * self.size).any())

    def check_same(self, what: str, text: str) -> None:
        """Raise `CtcontrolError` on all processes unless all have this same text."""
        if self.any(self.told(lambda: text) != text):
            raise CtcontrolError(
                f"the processes do not have the same {what}; give all of them the same files and "
                "versions"
            )

    def spoken(self, status: int, say: Callable[[], object]) -> int:
        """Fail with this exit status; `say` it unless another process does."""
        if self._store is None:
            say()
            return status
        try:
            self._note("failed")
            if self._store.add("speakers", 1) == 1:
                say()
                self._note("spoken")
            else:
                self._heard(WORDS)
        except RuntimeError:  # nobody is there any more
            say()
        return status

    def silent(self, status: int, say: Callable[[], object]) -> int:
        """Fail since another process did; `say` it only where that one cannot speak any more."""
        try:
            heard = self._heard(LAST_WORDS)
        except RuntimeError:
            heard = False
        return status if heard else self.spoken(status, say)

    def part(self) -> None:
        """Stay until all have come to their end: it may be the first process that keeps the notes,
        and one of the others may not have read the last."""
        with suppress(PeerFailure):
            self.each(lambda: None)

    def _note(self, key: str) -> None:
        if self._store is not None:
            self._store.set(key, "")

    def _await(self, key: str) -> None:
        assert self._store is not None
        try:
            while not self._store.check([key]):
                if self._store.check(["failed"]):
                    raise PeerFailure("the first process failed")
                time.sleep(NAP)
        except dist.DistError as error:
            raise PeerFailure(f"another process is gone ({error})") from None

    def _heard(self, seconds: float) -> bool:
        """Wait until the process that failed has spoken; whether it has, in time."""
        assert self._store is not None
        end = time.monotonic() + seconds
        while not self._store.check(["spoken"]):
            if time.monotonic() > end:
                return False
            time.sleep(NAP)
        return True
