"""`python -m benchmarks`: measure everything in pairs, and write it down where it is asked to.

Exit status: 0 measured, 2 bad input, 3 failure, 130 Ctrl-C.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.cases import Case, Size, cases
from ctcontrol_diffusion._console import command, console

Part = Literal["one_thread", "all_cores", "memory", "scale", "variance", "seeds"]
Record = dict[str, Any]


@dataclass(frozen=True)
class Arguments:
    """What the command takes."""

    size: Size = "small"
    """small: about ten minutes; full: the whole table, some hours."""
    parts: tuple[Part, ...] = get_args(Part)
    """What to measure."""
    budget: float = 60.0
    """Seconds that all rounds of one contender may take; what would take longer is left out."""
    json: Path | None = None
    """File for the numbers; parts that are not measured again keep those it has."""
    docs: Path | None = None
    """Page whose tables, between its markers, are written from the file of numbers."""
    plot: Path | None = None
    """File for the figure, as a PNG."""
    measure: bool = True
    """Or only write the page and the figure from the file of numbers."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; the parts that were finished are written")


def _command(words: list[str]) -> int:
    from benchmarks import report
    from ctcontrol import CtcontrolError
    from ctcontrol_diffusion._cli import read
    from ctcontrol_diffusion.run.files import to_json, write_atomically

    about = "What simulation and estimation cost, beside what one would use instead."
    arguments = read(Arguments(), words, prog="python -m benchmarks", description=about)
    found: Record = {}
    if arguments.json is not None and arguments.json.exists():
        found = json.loads(arguments.json.read_text("utf-8"))
    elif not arguments.measure:
        raise CtcontrolError("--no-measure needs the numbers: give --json with an existing file")
    if arguments.measure:
        before = os.getloadavg()[0]
        for part in arguments.parts:
            found[part] = [row for task in _tasks(part, arguments) for row in _measured(task)]
            found["machine"] = report.machine(before)
            found["command"] = " ".join(["python -m benchmarks", *words])
            if arguments.json is not None:  # after every part: hours are not lost to Ctrl-C
                write_atomically(arguments.json, to_json(found, indent=1) + "\n")
    console().print(report.tables(found), markup=False, highlight=False)
    if arguments.docs is not None:
        write_atomically(arguments.docs, report.filled(arguments.docs.read_text("utf-8"), found))
    if arguments.plot is not None:
        write_atomically(arguments.plot, report.figure(found))
    return 0


def _tasks(part: Part, arguments: Arguments) -> Iterator[Record]:
    """What the processes of one part have to do."""
    from benchmarks.rivals import CONTENDERS

    table = cases(arguments.size)
    match part:
        case "one_thread":
            for case in table:
                yield {"kind": part, "case": asdict(case), "budget": arguments.budget}
        case "all_cores":
            wide = [c for c in cases("full") if c.batch == 100_000 and c.steps == 100]
            chosen = wide if arguments.size == "full" else [c for c in wide if c.name == "LQ"]
            for case in chosen:
                yield {"kind": part, "case": asdict(case), "budget": arguments.budget}
        case "memory":
            shapes = [Case("LQ", 100_000, 100, "float32"), Case("LQ", 10_000, 1_000, "float32")]
            for case in shapes:
                for name in CONTENDERS:
                    yield {"kind": part, "case": asdict(case), "contender": name}
        case "scale":
            for name, steps in (("OU", 100), ("OU", 1_000), ("LQ", 100)):
                for dtype in ("float32", "float64"):
                    yield {"kind": part, "case": asdict(Case(name, 1_000, steps, dtype))}
        case "seeds":
            for name, dtype in product(("OU", "LQ"), ("float32", "float64")):
                yield {"kind": part, "case": asdict(Case(name, 1_000, 100, dtype))}
        case "variance":
            from benchmarks.variance import TASKS

            yield from ({"kind": part, "name": name} for name in TASKS)


def _measured(task: Record) -> Iterator[Record]:
    """The records of a process of its own, and what they are about."""
    name = str(Case(**task["case"])) if "case" in task else ""
    about = f"{task['kind']}: {name} {task.get('contender', task.get('name', ''))}"
    print(about, file=sys.stderr, flush=True)
    environment = dict(os.environ)
    if task["kind"] == "all_cores":
        environment.pop("OMP_NUM_THREADS", None)
    else:
        environment["OMP_NUM_THREADS"] = "1"
    words = [sys.executable, "-m", "benchmarks._worker", json.dumps(task)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["killed"])[-1]
        print(f"  failed: {reason}", file=sys.stderr)
        yield {"case": name, "contender": task.get("contender"), "skipped": reason[:200]}
        return
    for row in json.loads(done.stdout.splitlines()[-1]):
        yield {"case": name, **task.get("case", {}), **row}


if __name__ == "__main__":
    sys.exit(main())
