"""`make bench`: every contender on the small table, one thread, in turns with ours.

`over_ours` in the table's extra information is the median of the ratios of neighbours.
"""

import time
from collections.abc import Iterator

import pytest

pytest.importorskip("diffrax")

from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import measure
from benchmarks.cases import Case, cases
from benchmarks.rivals import CONTENDERS, OURS


def contests() -> Iterator[tuple[Case, str]]:
    """Every case with everybody who can do it."""
    for case in cases("small"):
        yield from ((case, name) for name in CONTENDERS)


@pytest.mark.parametrize(("case", "name"), list(contests()), ids=str)
def test_simulation(benchmark: BenchmarkFixture, case: Case, name: str) -> None:
    """One contender on one case."""
    measure.pin()
    run = measure.checked(CONTENDERS[name], case)
    if run == "cannot":
        pytest.skip("cannot")
    assert not isinstance(run, str), run
    ours = CONTENDERS[OURS](case)
    assert ours is not None
    ours(0)
    mine: list[float] = []
    theirs: list[float] = []

    def alternate() -> tuple[tuple[int], dict[str, object]]:
        mine.append(measure.seconds(ours, len(mine), time.process_time))
        return (len(mine),), {}

    def timed(seed: int) -> None:
        theirs.append(measure.seconds(run, seed, time.process_time))

    benchmark.group = str(case)
    benchmark.name = name
    benchmark.pedantic(timed, setup=alternate, rounds=measure.ROUNDS)
    summary = measure.Pairs(tuple(mine), tuple(theirs)).summary()
    benchmark.extra_info.update(over_ours=round(summary["ratio"], 2), rounds=summary["rounds"])
