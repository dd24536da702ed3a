"""Find the theorems, and check them, in as many processes as wanted."""

import difflib
import importlib
import pkgutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import validation
from ctcontrol import CtcontrolError
from validation._pool import each
from validation._report import Report, Size

SHARED = ("learning",)
"""Theorems whose own parts run beside each other: `check(size, jobs)`."""


@dataclass(frozen=True)
class Outcome:
    """A checked theorem.

    Attributes:
        theorem: the name of its file.
        report: what was seen.
        seconds: it took.
    """

    theorem: str
    report: Report
    seconds: float

    @property
    def failed(self) -> int:
        """Number of claims that do not hold."""
        return sum(not claim.passed for claim in self.report.claims)


def theorems() -> list[str]:
    """The names of all theorem files."""
    found = pkgutil.iter_modules(validation.__path__)
    return sorted(m.name for m in found if not m.ispkg and not m.name.startswith("_"))


def chosen(names: Sequence[str]) -> list[str]:
    """Those asked for, all if none; `-` and `_` are the same.

    Raises:
        CtcontrolError: a name that is not there.
    """
    known = theorems()
    wanted = [name.replace("-", "_") for name in names]
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise CtcontrolError(f"there is no theorem {name!r} to validate; {hint}")
    return list(dict.fromkeys(wanted)) or known


def check(theorem: str, size: Size, jobs: int = 1) -> Outcome:
    """Check one theorem, on one thread, so that sums do not depend on the machine's cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        module = importlib.import_module(f"validation.{theorem}")
        report: Report = module.check(size, jobs) if theorem in SHARED else module.check(size)
    finally:
        torch.set_num_threads(threads)
    return Outcome(theorem, report, time.perf_counter() - began)


def check_all(names: Sequence[str], size: Size, jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come in; their numbers do not depend on `jobs`.

    Raises:
        NumericalError: the operating system killed a process.
    """
    whole = [name for name in names if name not in SHARED]
    for _, outcome in each(partial(check, size=size), whole, jobs):
        yield outcome
    for name in names:
        if name in SHARED:
            yield check(name, size, jobs)
