"""Apply a mutant to a copy of the project and see whether its tests fail."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Literal

from tests.mutants.table import Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("ctcontrol", "ctcontrol_diffusion", "validation", "tests", "docs", "pyproject.toml")
TESTS_FAILED = 1
"""Exit status of pytest; others are mistakes of the call, not of the code."""

Fate = Literal["killed", "survived", "timed out", "broken"]


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: which.
        fate: only `killed` is good; `broken` means the tests could not be run.
        seconds: it took.
        output: the end of what pytest said.
    """

    mutant: Mutant
    fate: Fate
    seconds: float
    output: str


def occurrences(mutant: Mutant, root: Path = ROOT) -> int:
    """How often the old text stands in the file; 0 if there is no such file."""
    path = root / mutant.file
    return path.read_text("utf-8").count(mutant.old) if path.is_file() else 0


def copy(to: Path) -> Path:
    """The project without its history, environment and caches."""
    junk = shutil.ignore_patterns("__pycache__", ".*", "*.png")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=junk)
        else:
            shutil.copy2(source, to / name)
    return to


@contextmanager
def applied(mutant: Mutant, root: Path) -> Generator[None]:
    """The mutated file, restored afterwards."""
    path = root / mutant.file
    before = path.read_text("utf-8")
    path.write_text(before.replace(mutant.old, mutant.new), "utf-8")
    try:
        yield
    finally:
        path.write_text(before, "utf-8")


def run_tests(tests: Sequence[str], root: Path, limit: float) -> tuple[int | None, str]:
    """pytest's exit status, None past the time limit, and the end of its output."""
    words = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CI": "true"}
    try:
        done = subprocess.run(
            [*words, *tests],
            cwd=root,
            env=environment,
            timeout=limit,
            capture_output=True,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return None, f"more than {limit:g} s"
    return done.returncode, "\n".join((done.stdout + done.stderr).splitlines()[-15:])


def judge(mutant: Mutant, root: Path, limit: float) -> Verdict:
    """Run its tests on the mutated copy."""
    began = time.perf_counter()
    with applied(mutant, root):
        status, output = run_tests(mutant.tests, root, limit)
    fates: dict[int | None, Fate] = {None: "timed out", 0: "survived", TESTS_FAILED: "killed"}
    fate = fates.get(status, "broken")
    return Verdict(mutant, fate, time.perf_counter() - began, output)


def judge_all(mutants: Iterable[Mutant], jobs: int, limit: float) -> Iterator[Verdict]:
    """Verdicts as they come, each job on a copy of its own."""
    with TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Path] = Queue()
        for index in range(jobs):
            (Path(folder) / str(index)).mkdir()
            free.put(copy(Path(folder) / str(index)))

        def work(mutant: Mutant) -> Verdict:
            root = free.get()
            try:
                return judge(mutant, root, limit)
            finally:
                free.put(root)

        for done in as_completed([pool.submit(work, mutant) for mutant in mutants]):
            yield done.result()


def healthy(tests: Sequence[str], limit: float) -> str | None:
    """What the tests say on an unmutated copy if they do not pass, else None."""
    with TemporaryDirectory(prefix="mutants-") as folder:
        status, output = run_tests(tests, copy(Path(folder)), limit)
    return None if status == 0 else output
