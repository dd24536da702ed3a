"""Apply a mutant to a copy of the project and see whether its tests fail."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any, Literal

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
    words += ["--hypothesis-seed=0"]  # the same examples every time
    # Who runs these tests may be tested, and measured, itself.
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "SLIPCOVER_"))}
    environment = {**own, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CI": ""}
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
    with _copies(jobs) as on_a_copy:
        yield from on_a_copy(lambda mutant, root: judge(mutant, root, limit), mutants)


def complaints(tests: Iterable[str], jobs: int, limit: float) -> Iterator[tuple[str, str | None]]:
    """Each test file or folder, and what it says on the true source if it does not pass."""

    def work(test: str, root: Path) -> tuple[str, str | None]:
        status, output = run_tests([test], root, limit)
        return test, None if status == 0 else output

    with _copies(jobs) as on_a_copy:
        yield from on_a_copy(work, tests)


@contextmanager
def _copies(jobs: int) -> Generator[Callable[..., Iterator[Any]]]:
    """What maps work(item, root) over items, `jobs` beside each other, each on its own copy."""
    with TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Path] = Queue()
        for index in range(jobs):
            (Path(folder) / str(index)).mkdir()
            free.put(copy(Path(folder) / str(index)))

        def on_a_copy(work: Callable[[Any, Path], Any], items: Iterable[Any]) -> Iterator[Any]:
            def borrow(item: Any) -> Any:
                root = free.get()
                try:
                    return work(item, root)
                finally:
                    free.put(root)

            for done in as_completed([pool.submit(borrow, item) for item in items]):
                yield done.result()

        yield on_a_copy
