"""One thread that works while its owner does something else."""

from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Generic, Self, TypeVar

import torch

T = TypeVar("T")


class Beside(Generic[T]):
    """Does one piece of work after another, in the order in which they come, without gradients.

    After a piece that raised none is begun. An owner that is interrupted does not wait for the
    piece at work, and neither does the interpreter when it ends.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Callable[[], T], Future[T]] | None] = SimpleQueue()
        self._futures: list[Future[T]] = []
        self._thread: Thread | None = None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Have `work` done; raises what an earlier piece has raised by now."""
        self._complain()
        if self._thread is None:
            threads = torch.get_num_threads()
            self._thread = Thread(target=self._work, args=(threads,), daemon=True)
            self._thread.start()
        future: Future[T] = Future()
        self._futures.append(future)
        self._queue.put((work, future))
        return future

    def results(self) -> list[T]:
        """Of all pieces, in order; raises what the first bad one raised."""
        return [future.result() for future in self._futures]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for future in self._futures:
            future.cancel()
        self._queue.put(None)

    def _complain(self) -> None:
        for future in self._futures:
            if future.done():
                future.result()

    def _work(self, threads: int) -> None:
        torch.set_num_threads(threads)
        with torch.no_grad():  # a thread has its own mode
            while (item := self._queue.get()) is not None:
                work, future = item
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
                    return
