"""Every mutant still applies, and the runner tells a kill from a survivor."""

from pathlib import Path

import pytest

from tests.mutants import runner
from tests.mutants.table import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.mistake)
def test_the_mutant_applies(mutant: Mutant) -> None:
    assert runner.occurrences(mutant) == 1
    assert mutant.old != mutant.new
    assert all((runner.ROOT / test.split("::")[0]).exists() for test in mutant.tests)


def test_mistakes_are_told_apart() -> None:
    assert len(MUTANTS) >= 25
    assert len({mutant.mistake for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(
    ("assertion", "fate"),
    [
        ("assert TWO == 2", "killed"),
        ("assert TWO", "survived"),
        ("while TWO == 3: pass", "timed out"),
        ("from nowhere import x", "killed"),
    ],
)
def test_fates(assertion: str, fate: str, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("TWO = 2\n")
    source = f"from two import TWO\n\n\ndef test_two():\n    {assertion}\n"
    (tmp_path / "test_two.py").write_text(source)
    mutant = Mutant("2 is 3", "two.py", "TWO = 2", "TWO = 3", ("test_two.py",))
    assert runner.judge(mutant, tmp_path, limit=5 if fate == "timed out" else 60).fate == fate
    assert (tmp_path / "two.py").read_text() == "TWO = 2\n"


def test_tests_that_cannot_be_run_kill_nothing(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text("TWO = 2\n")
    mutant = Mutant("2 is 3", "two.py", "TWO = 2", "TWO = 3", ("test_missing.py",))
    assert runner.judge(mutant, tmp_path, limit=60).fate == "broken"
