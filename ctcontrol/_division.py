"""How rows are divided: among processes, and in parts that go through a network at once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ctcontrol._checks import check_count

ROWS = 8192
"""Rows evaluated together where nobody says how many: enough to keep an accelerator busy."""


class PeerFailure(RuntimeError):
    """Another process of this run failed or ended; what happened is for that process to say."""


class Collective(ABC):
    """Processes that work on one run, each of which calls all of this in the same order.

    They hold the same parameters and generators throughout: what differs is which rows they look
    at. A process that fails says so by `agree`, so that no other waits for it.

    Raises:
        PeerFailure: by every method, where another process is gone.
    """

    @property
    @abstractmethod
    def rank(self) -> int:
        """Of this process, 0 … size − 1."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of processes."""

    @abstractmethod
    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sum over processes of each tensor, the same bits everywhere.

        All processes give as many tensors of the same shapes and dtypes, which may be overwritten.
        """

    @abstractmethod
    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all processes in the order of their ranks, (Σ counts, …); process r gives
        (counts[r], …)."""

    def agree(self, error: Exception | None) -> None:
        """Go on together, or not at all.

        Raises:
            Exception: `error`, if it is given.
            PeerFailure: another process gave one.
        """
        failed = torch.tensor([error is not None], dtype=torch.long)
        failures = self.gather(failed, [1] * self.size)
        if error is not None:
            raise error
        if bool(failures.any()):
            raise PeerFailure(f"process {int(failures.argmax())} of {self.size} failed")


class Alone(Collective):
    """One process."""

    @property
    def rank(self) -> int:
        return 0

    @property
    def size(self) -> int:
        return 1

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return list(tensors)

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        return rows

    def agree(self, error: Exception | None) -> None:
        if error is not None:
            raise error


ALONE = Alone()


@dataclass(frozen=True, eq=False)
class Division:
    """Rows are shared out among the processes, whose shares go through networks in parts.

    Attributes:
        micro_batch: rows of a part at most; None for as many as there are.
        collective: the processes.

    Raises:
        CtcontrolError: a `micro_batch` that is no whole number ≥ 1.
    """

    micro_batch: int | None = None
    collective: Collective = ALONE

    def __post_init__(self) -> None:
        if self.micro_batch is not None:
            check_count("micro_batch", self.micro_batch)

    @property
    def divides(self) -> bool:
        """Whether anything is divided."""
        return self.micro_batch is not None or self.collective.size > 1

    def counts(self, rows: int) -> list[int]:
        """Of `rows` rows, how many each process gets: they differ by one at most."""
        each, more = divmod(rows, self.collective.size)
        return [each + (rank < more) for rank in range(self.collective.size)]

    def shares(self, rows: int) -> bool:
        """Whether rows are shared out: a share of none would have no shape."""
        return 1 < self.collective.size <= rows

    def share(self, rows: int) -> range:
        """Of `rows` rows, those of this process."""
        counts, rank = self.counts(rows), self.collective.rank
        stop = list(accumulate(counts))[rank]
        return range(stop - counts[rank], stop)

    def parts(self, span: range, most: int | None = None) -> list[range]:
        """`span` in parts of `micro_batch` rows, or of `most` where that is None."""
        size = self.micro_batch or most or max(1, len(span))
        return [range(i, min(i + size, span.stop)) for i in range(span.start, span.stop, size)]

    def over(self, function: Callable[[Tensor], Tensor], rows: int, device: torch.device) -> Tensor:
        """function(indices (n,)) -> (n, …) for the rows 0 … rows − 1, part by part, (rows, …).

        Every process looks at its share and gets the whole. Raises what `function` does.
        """
        collective, shared = self.collective, self.shares(rows)
        error: Exception | None = None
        found: list[Tensor] = []
        try:
            for part in self.parts(self.share(rows) if shared else range(rows), ROWS):
                found.append(function(torch.arange(part.start, part.stop, device=device)))
        except Exception as raised:
            error = raised
        collective.agree(error)
        mine = torch.cat(found)
        return collective.gather(mine, self.counts(rows)) if shared else mine


WHOLE = Division()
"""One process, and nothing divided."""
