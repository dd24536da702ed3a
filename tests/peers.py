"""Processes as threads of one, for tests of what is shared out."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Barrier, BrokenBarrierError
from typing import TypeVar

import torch
from torch import Tensor

from ctcontrol import Collective, PeerFailure

T = TypeVar("T")


@dataclass(eq=False)
class Table:
    """Where threads lay down what the others take up."""

    seats: int
    held: dict[int, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.barrier = Barrier(self.seats, timeout=10)

    def exchange(self, rank: int, mine: object) -> list[object]:
        """What all threads gave, in the order of their ranks."""
        try:
            self.held[rank] = mine
            self.barrier.wait()
            every = [self.held[r] for r in range(self.seats)]
            self.barrier.wait()
        except BrokenBarrierError:
            raise PeerFailure("another thread is gone") from None
        return every


@dataclass(frozen=True, eq=False)
class Seat(Collective):
    """One thread of several."""

    table: Table
    seat: int

    @property
    def rank(self) -> int:
        return self.seat

    @property
    def size(self) -> int:
        return self.table.seats

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        every = self.table.exchange(self.seat, [t.clone() for t in tensors])
        return [torch.stack(parts).sum(0) for parts in zip(*every, strict=True)]

    def gather(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        every = self.table.exchange(self.seat, rows)
        found: list[Tensor] = [part for part in every if isinstance(part, Tensor)]
        assert [len(part) for part in found] == list(counts)
        return torch.cat(found)


def together(size: int, work: Callable[[Collective], T]) -> list[T | Exception]:
    """work(collective) on `size` threads: what each returned or raised, in the order of ranks."""
    table = Table(size)

    def one(seat: int) -> T | Exception:
        try:
            return work(Seat(table, seat))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))
