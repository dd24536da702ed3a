"""Every theorem, at the small size."""

import json
import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from tests.test_architecture import ROOT
from validation import _run
from validation._report import Claim


@cache
def outcome(theorem: str) -> _run.Outcome:
    """Checked once, however many tests look at it."""
    return _run.check(theorem, "small")


def resolve(dotted: str) -> object:
    """What a dotted name leads to, in whatever module it begins."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        if find_spec_of(".".join(parts[:cut])):
            thing: object = import_module(".".join(parts[:cut]))
            for part in parts[cut:]:
                thing = getattr(thing, part)
            return thing
    raise AssertionError(f"{dotted} leads nowhere")


def find_spec_of(module: str) -> bool:
    """Whether it is a module."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize("theorem", _run.theorems())
def test_every_claim_holds(theorem: str) -> None:
    """And the report is complete; one test, so that parallel workers check each theorem once."""
    report = outcome(theorem).report
    failed = [claim for claim in report.claims if not claim.passed]
    assert not failed
    names = [claim.name for claim in report.claims]
    assert names
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    assert report.plot.series
    assert all(resolve(name) is not None for name in report.code)


def test_the_same_numbers_come_from_a_second_process() -> None:
    names = ["kl_identity", "hjb_score"]
    beside = {o.theorem: o.report for o in _run.check_all(names, "small", 2)}
    for name in names:
        assert beside[name].claims == outcome(name).report.claims


def test_theorem_files_are_short() -> None:
    lengths = {
        path.name: len(path.read_text("utf-8").splitlines())
        for path in (ROOT / "validation").glob("*.py")
    }
    assert {name: n for name, n in lengths.items() if n > 210} == {}


def test_numbers_of_numpy_are_written() -> None:
    """Found at the end of a long run, they would cost all of it."""
    one = np.float64(1.0)
    claim = Claim("n", "s", one, one, one, one)
    assert claim.passed is True
    assert json.loads(json.dumps({"passed": claim.passed, "estimate": claim.estimate}))
