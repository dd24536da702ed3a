"""Programs in processes of their own, forked from one that has imported what takes seconds."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.imported"])


@dataclass(frozen=True)
class Started:
    """A program that runs, and the files it speaks into."""

    process: BaseProcess
    out: Path
    err: Path

    def wait_for(self, happened: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait until something has happened, or the program has ended."""
        deadline = time.monotonic() + seconds
        while self.process.is_alive() and not happened() and time.monotonic() < deadline:
            time.sleep(0.05)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGINT)

    def ended(self, *, seconds: float = 120) -> "subprocess.CompletedProcess[str]":
        """Its status and what it said, once it has ended."""
        self.process.join(seconds)
        status = self.process.exitcode
        assert status is not None, f"still running after {seconds} s: {self.err.read_text()}"
        said = self.out.read_text(), self.err.read_text()
        return subprocess.CompletedProcess(sys.argv, status, *said)


@contextmanager
def started(
    code: str, *words: str | Path, environment: Mapping[str, str] | None = None
) -> Generator[Started]:
    """Python code in a process of its own, which knows `words` as `sys.argv[1:]`."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        out.touch()
        err.touch()
        known = {**os.environ, **(environment or {})}
        told = (code, [*map(str, words)], known, os.getcwd(), out, err)
        process = _FORKS.Process(target=_program, args=told)
        process.start()
        try:
            yield Started(process, out, err)
        finally:
            process.kill()
            process.join()


def program(code: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """Python code in a process of its own, from its beginning to its end."""
    with started(code, *words) as begun:
        return begun.ended()


def module(name: str) -> str:
    """The code of `python -m name`."""
    return f"import runpy\nrunpy.run_module({name!r}, run_name='__main__', alter_sys=True)\n"


def _program(
    code: str, words: list[str], environment: dict[str, str], folder: str, out: Path, err: Path
) -> None:
    """In the new process: as `python -c code words`."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["-c", *words]
    exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
