"""The command: what it prints, writes, refuses and returns."""

import json
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctcontrol import Estimate
from validation import _run, _write
from validation.__main__ import main
from validation._pool import each
from validation._report import (
    Claim,
    Plot,
    Report,
    Series,
    at_least,
    equal,
    order,
    rate,
    sampled,
    slope,
)


def report(*claims: Claim) -> Report:
    """A report with a small plot."""
    plot = Plot("p", "x", "y", (Series("s", (1.0, 2.0), (1.0, 2.0), (0.1, 0.1)),))
    return Report("Title", "says", "if", "where", ("ctcontrol.simulate",), claims, plot)


@pytest.fixture
def one_theorem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checking anything gives one claim that holds and one that does not."""
    outcome = report(equal("good", "1 = 1", 1, 1), equal("bad", "1 = 2 | 3", 1, 2))
    monkeypatch.setattr(
        _run, "check_all", lambda names, size, jobs: (_run.Outcome(n, outcome, 0.1) for n in names)
    )


def test_a_failing_claim_is_shown_and_gives_status_one(
    one_theorem: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "claims.json"
    assert main(["kl_identity", "--json", str(file)]) == 1
    out = capsys.readouterr().out
    assert "FAILS" in out
    assert "1 of 2 claims hold" in out
    keys = ["theorem", "name", "expected", "estimate", "stderr", "tolerance", "passed"]
    claims = json.loads(file.read_text())["claims"]
    assert [list(claim) for claim in claims] == [keys, keys]
    assert [claim["passed"] for claim in claims] == [True, False]


@pytest.fixture
def two_theorems_and_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of the two is interrupted."""

    def check_all(names: list[str], size: str, jobs: int) -> Iterator[_run.Outcome]:
        yield _run.Outcome(names[0], report(equal("good", "1 = 1", 1, 1)), 0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "check_all", check_all)


def test_ctrl_c_writes_what_is_finished(
    two_theorems_and_ctrl_c: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, page, pictures = (tmp_path / name for name in ("claims.json", "v.html", "figures"))
    flags = ["--json", str(file), "--html", str(page), "--figures", str(pictures)]
    assert main(["kl_identity", "q_learning", *flags]) == 130
    out, error = capsys.readouterr()
    assert "1 of 1 claims hold" in out
    assert "stopped; finished: kl_identity; not finished: q_learning" in error
    written = json.loads(file.read_text())
    assert list(written["theorems"]) == ["kl_identity"]
    assert written["unfinished"] == ["q_learning"]
    assert "stopped before the end of q_learning" in page.read_text()
    assert [picture.name for picture in pictures.iterdir()] == ["kl_identity.png"]


def test_ctrl_c_before_anything_is_finished_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def check(theorem: str, size: str) -> _run.Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(_run, "check", check)
    file = tmp_path / "claims.json"
    assert main(["kl_identity", "--json", str(file)]) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert not file.exists()


def _wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_processes_end_with_who_waits_for_them() -> None:
    found = each(_wait, [0.0, 60.0], 2)
    assert next(found) == (0, 0.0)
    assert multiprocessing.active_children()
    found.close()
    # another thread of the pool may be about to note the end of one
    deadline = time.monotonic() + 10
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not multiprocessing.active_children()


def test_pages_and_figures_are_written(one_theorem: None, tmp_path: Path) -> None:
    page, pictures = tmp_path / "v.html", tmp_path / "figures"
    main(["kl_identity", "--html", str(page), "--figures", str(pictures)])
    assert "data:image/png" in page.read_text()
    assert (pictures / "kl_identity.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["kl_identiti"], "did you mean 'kl_identity'"),
        (["--size", "huge"], "one of small, full"),
        (["--json", "/nowhere/claims.json"], "cannot be written"),
        (["--figures", "/dev/null/figures"], "cannot be made"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_mistakes_are_refused_in_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_hyphens_and_repeats_in_names_do_not_matter() -> None:
    assert _run.chosen(["kl-identity", "kl_identity"]) == ["kl_identity"]


def test_what_is_not_finite_never_passes() -> None:
    assert not equal("n", "nan", float("nan"), 0).passed
    assert not sampled("s", "no error bar", Estimate(0.0, float("nan"), 1), 0.0).passed
    assert not at_least("a", "inf", float("inf"), 0.0).passed


def test_slopes_carry_the_sampling_error() -> None:
    sizes = (0.4, 0.2, 0.1)
    exact = slope(sizes, [3 * s**2 for s in sizes])
    assert exact.mean == pytest.approx(2, abs=1e-12)
    noisy = rate("r", "slope", sizes, [3 * s**2 for s in sizes], 1.0, 0.1, [s**2 for s in sizes])
    assert noisy.stderr == pytest.approx(0.3333 / (0.4804530**0.5 * 2**0.5), rel=1e-3)
    assert noisy.tolerance > 1


@pytest.mark.parametrize("bend", [-0.7, 0.2, 0.7])
@pytest.mark.parametrize("p", [-1.0, 0.5, 1.0, 2.0])
def test_an_order_is_told_from_its_neighbours(p: float, bend: float) -> None:
    sizes = (0.1, 0.05, 0.025)
    errors = [3 * s**p * (1 + bend * s) for s in sizes]
    assert order("o", "order", sizes, errors, p).passed
    assert not order("o", "order", sizes, errors, p + 0.1).passed
    assert not order("o", "order", sizes, errors, p - 0.1).passed


def test_cells_show_the_relation() -> None:
    assert _write.cells(at_least("a", "b", 2, 1))[0] == "≥ 1"
