"""`python -m validation [NAME …]`: check theorems, and say which claims hold.

Exit status: 0 every claim holds, 1 a claim fails, 2 bad input, 3 failure, 130 Ctrl-C; what was
finished by then is written.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ctcontrol_diffusion._console import INTERRUPTED, command, console, fail
from validation._report import Size

if TYPE_CHECKING:
    from rich.table import Table

    from validation._run import Outcome

PROGRAM = "python -m validation"
FAILED = 1


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the names."""

    size: Size = "small"
    """small: about two minutes; full: more paths and finer grids, for the documentation."""
    json: Path | None = None
    """File for all claims as JSON."""
    html: Path | None = None
    """File for a page with tables and figures."""
    figures: Path | None = None
    """Folder for one figure a theorem."""
    jobs: int = 1
    """Processes beside each other; the numbers do not depend on it."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped before all was written")


def _command(words: list[str]) -> int:
    from ctcontrol import check_count
    from ctcontrol_diffusion._cli import read
    from ctcontrol_diffusion.run.files import to_json, write_atomically
    from validation import _run, _write

    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    arguments = read(
        Arguments(),
        words[count:],
        prog=f"{PROGRAM} [NAME …]",
        description=f"Check theorems. NAMEs come first; all if none: {', '.join(_run.theorems())}.",
    )
    check_count("--jobs", arguments.jobs)
    names = _run.chosen(words[:count])
    for flag, file in (("--json", arguments.json), ("--html", arguments.html)):
        _check_file(flag, file)
    _check_folder("--figures", arguments.figures)
    outcomes = _checked(names, arguments)
    missing = [name for name in names if name not in {outcome.theorem for outcome in outcomes}]
    if missing and not outcomes:
        return fail("stopped before a theorem was finished; nothing was written", INTERRUPTED)
    said = " ".join([PROGRAM, *words])
    console().print(_table(outcomes))
    if arguments.json is not None:
        records = _write.records(outcomes, said, missing)
        write_atomically(arguments.json, to_json(records, indent=2) + "\n")
    if arguments.html is not None:
        write_atomically(arguments.html, _write.html(outcomes, said, missing))
    if arguments.figures is not None:
        _write.figures(outcomes, arguments.figures)
    claims = sum(len(outcome.report.claims) for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    console().print(f"{claims - failed} of {claims} claims hold")
    if missing:
        done = ", ".join(outcome.theorem for outcome in outcomes)
        said = f"stopped; finished: {done}; not finished: {', '.join(missing)}"
        return fail(said, INTERRUPTED)
    return FAILED if failed else 0


def _checked(names: list[str], arguments: Arguments) -> "list[Outcome]":
    """Outcomes in the order of the names, with progress on standard error; fewer after Ctrl-C."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from validation import _run

    stderr = Console(stderr=True)
    found: dict[str, Outcome] = {}
    bars = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*bars, console=stderr, transient=True) as progress, suppress(KeyboardInterrupt):
        task = progress.add_task("theorems", total=len(names))
        for outcome in _run.check_all(names, arguments.size, arguments.jobs):
            found[outcome.theorem] = outcome
            good = len(outcome.report.claims) - outcome.failed
            line = f"{outcome.theorem}: {good} of {len(outcome.report.claims)} claims hold, "
            progress.console.print(f"{line}{outcome.seconds:.1f} s", highlight=False)
            progress.advance(task)
    return [found[name] for name in names if name in found]


def _table(outcomes: "Sequence[Outcome]") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from validation import _write

    table = Table()
    table.add_column("statement", overflow="fold")
    for name in ("expected", "estimate ± s.e.", "tolerance"):
        table.add_column(name, justify="right")
    table.add_column("verdict")
    for outcome in outcomes:
        table.add_section()
        table.add_row(Text(f"{outcome.report.title} ({outcome.theorem})", style="bold"))
        for claim in outcome.report.claims:
            *numbers, verdict = _write.cells(claim)
            style = "green" if claim.passed else "bold red"
            table.add_row(Text(claim.statement), *numbers, Text(verdict, style=style))
    return table


def _check_file(flag: str, path: Path | None) -> None:
    """Refuse now what could not be written after minutes of work."""
    from ctcontrol import CtcontrolError

    if path is None:
        return
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise CtcontrolError(f"{flag}: {path} cannot be written; name a file in a folder that can")


def _check_folder(flag: str, path: Path | None) -> None:
    from ctcontrol import CtcontrolError

    if path is None:
        return
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise CtcontrolError(f"{flag}: {path} cannot be made; name a folder that can be written")


if __name__ == "__main__":
    sys.exit(main())
