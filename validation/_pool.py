"""Work in processes beside each other, which end when nobody waits for them any more."""

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], inputs: Sequence[T], jobs: int) -> Generator[tuple[int, R]]:
    """(index of the input, result) as they come in; in this process where one job is enough.

    Raises:
        NumericalError: the operating system killed a process.
    """
    if jobs == 1 or len(inputs) <= 1:
        yield from ((i, work(given)) for i, given in enumerate(inputs))
        return
    context = multiprocessing.get_context("spawn")  # forks of a threaded torch may hang
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, len(inputs)), context, initializer=_deaf)
    try:
        futures = {pool.submit(work, given): i for i, given in enumerate(inputs)}
        for done in as_completed(futures):
            try:
                yield futures[done], done.result()
            except BrokenProcessPool:
                from ctcontrol import NumericalError  # no torch before a process is deaf

                raise NumericalError(
                    "a process of the validation was killed, most likely for want of memory; "
                    "use fewer jobs, or --size small"
                ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
            process.join()


def _deaf() -> None:
    """Ctrl-C goes to all processes of a terminal; the first one ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
