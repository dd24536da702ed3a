"""Seconds in pairs, and peaks of memory.

Other processes come and go, so seconds alone mean little: ours and a rival take turns, and what is
reported is the median of the ratios of neighbours, with its quartiles.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cases import Case, Contender, Run
from benchmarks.law import check

ROUNDS = 7
CHECKED = 2_000
"""Paths of the run that is held against the truth before anything is timed."""
Clock = Callable[[], float]


@dataclass(frozen=True)
class Pairs:
    """Seconds of neighbours, round by round."""

    ours: tuple[float, ...]
    rival: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """How much longer the rival took."""
        return [rival / ours for ours, rival in zip(self.ours, self.rival, strict=True)]

    def summary(self) -> dict[str, Any]:
        """Medians and quartiles."""
        low, middle, high = quartiles(self.ratios)
        return {
            "seconds": statistics.median(self.rival),
            "ours": statistics.median(self.ours),
            "ratio": middle,
            "low": low,
            "high": high,
            "rounds": len(self.ours),
        }


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The first, the median and the third; of few values the extremes."""
    if len(values) < 3:
        return min(values), statistics.median(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def seconds(run: Run, seed: int, clock: Clock) -> float:
    """What one run takes."""
    start = clock()
    run(seed)
    return clock() - start


def paired(ours: Run, rival: Run, clock: Clock, rounds: int = ROUNDS) -> Pairs:
    """A B A B …; both have run before."""
    found = [(seconds(ours, k, clock), seconds(rival, k, clock)) for k in range(rounds)]
    mine, theirs = zip(*found, strict=True)
    return Pairs(mine, theirs)


def checked(contender: Contender, case: Case, budget: float = float("inf")) -> Run | str:
    """The case, ready to be timed, after its law was checked on a few paths.

    A string says why not: it cannot, all rounds would take longer than `budget` seconds, or it does
    not have the right law.
    """
    small = replace(case, batch=min(case.batch, CHECKED))
    sample = contender(small)
    if sample is None:
        return "cannot"
    try:
        check(case, sample(0))
    except AssertionError as error:
        return f"wrong law: {error}"
    expected = seconds(sample, 1, time.perf_counter) * case.batch / small.batch
    if expected * (ROUNDS + 1) > budget:
        return f"about {expected:.0f} s a run"
    run = contender(case)
    assert run is not None
    run(0)
    return run


def pin() -> None:
    """One thread on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import torch

    torch.set_num_threads(1)


def peak(contender: Contender, case: Case) -> dict[str, Any]:
    """Megabytes of one run above what the loaded libraries hold; for a process of its own."""
    warm = contender(replace(case, batch=16, steps=2))
    if warm is None:
        return {"skipped": "cannot"}
    warm(0)
    run = contender(case)
    assert run is not None
    before, _ = _resident()
    _forget_peak()
    run(0)
    return {"extra": (_resident()[1] - before), "libraries": before, **asdict(case)}


def _resident() -> tuple[float, float]:
    """Memory now and at most, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        now, most = (int(lines[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM"))
        return now, most
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = most / (2**20 if sys.platform == "darwin" else 2**10)
    return megabytes, megabytes


def _forget_peak() -> None:
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
