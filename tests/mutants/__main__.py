"""`python -m tests.mutants [WORD …]`: break the source, one line at a time.

Every mutant of `tests/mutants/` whose mistake or file contains a WORD, all without one.
Exit status: 0 all killed, 1 a mutant survived or could not be judged, 2 bad input.
"""

import argparse
import sys
from collections.abc import Sequence

from tests.mutants.runner import complaints, judge_all, occurrences
from tests.mutants.table import MUTANTS, Mutant

LIMIT = 300.0
"""Seconds for the tests of one mutant."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD", help="part of a mistake or a file")
    parser.add_argument("--jobs", type=int, default=1, help="mutants judged beside each other")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for one mutant")
    arguments = parser.parse_args(words)
    if arguments.jobs < 1:
        parser.error(f"--jobs must be a whole number >= 1, got {arguments.jobs}")
    some = [m for m in MUTANTS if chosen(m, arguments.words)]
    if not some:
        parser.error(f"no mutant has {' or '.join(map(repr, arguments.words))} in it")
    stale = [m for m in some if occurrences(m) != 1]
    for mutant in stale:
        times = f"occurs {occurrences(mutant)} times"
        print(f"STALE     {mutant.mistake}: its old text {times} in {mutant.file}", flush=True)
    fresh = [m for m in some if m not in stale]
    # A test that fails on the true source would kill anything.
    named = sorted({test for mutant in fresh for test in mutant.tests})
    print(f"{len(named)} test files and folders on the true source …", flush=True)
    sick = False
    for test, complaint in complaints(named, arguments.jobs, arguments.limit):
        if complaint is not None:
            print(f"{test}:\n{complaint}", flush=True)
            sick = True
    if sick:
        print("tests fail without any mutant; mend them first")
        return 1
    killed = 0
    for count, verdict in enumerate(judge_all(fresh, arguments.jobs, arguments.limit), 1):
        killed += verdict.fate == "killed"
        said = f"{verdict.fate:<9} {verdict.mutant.mistake} ({verdict.mutant.file})"
        print(f"[{count}/{len(fresh)}] {said}, {verdict.seconds:.0f} s", flush=True)
        if verdict.fate not in ("killed", "survived"):
            print(verdict.output, flush=True)
    print(f"{killed} of {len(some)} mutants killed")
    return 0 if killed == len(some) else 1


def chosen(mutant: Mutant, words: Sequence[str]) -> bool:
    """Whether one of the words stands in the mutant; true without words."""
    return not words or any(word in mutant.mistake or word in mutant.file for word in words)


if __name__ == "__main__":
    sys.exit(main())
