"""One measurement in a process of its own: `python -m benchmarks._worker TASK`, both in JSON.

A fresh process has its own threads, pinning and peak of memory, and what it leaves behind is gone.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks import measure
from benchmarks.cases import Case, Run
from benchmarks.rivals import CONTENDERS, OURS

Record = dict[str, Any]


def one_thread(case: Case, budget: float) -> list[Record]:
    """CPU seconds of every contender on one core, beside ours."""
    measure.pin()
    return _against_ours(case, budget, time.process_time, lambda name, run: run)


def all_cores(case: Case, budget: float) -> list[Record]:
    """Wall seconds; loops in torch and NumPy with one thread or all, whichever is faster."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # while laws are checked on few paths, where threads only fight

    def best(name: str, run: Run) -> Run:
        torch.set_num_threads(threads)
        if not name.startswith(("torch", "NumPy")) or name == "torch, by hand":
            return run

        def alone(seed: int) -> Any:
            torch.set_num_threads(1)
            try:
                with threadpool_limits(1, "blas"):
                    return run(seed)
            finally:
                torch.set_num_threads(threads)

        found = {r: measure.seconds(r, 1, time.perf_counter) for r in (alone, run)}
        return min(found, key=lambda r: found[r])

    return _against_ours(case, budget, time.perf_counter, best)


def _against_ours(
    case: Case, budget: float, clock: measure.Clock, prepared: Callable[[str, Run], Run]
) -> list[Record]:
    ours = measure.checked(CONTENDERS[OURS], case, budget)
    if isinstance(ours, str):
        return [{"contender": OURS, "skipped": ours}]
    rivals = {name: contender for name, contender in CONTENDERS.items() if name != OURS}
    ready = {name: measure.checked(rival, case, budget) for name, rival in rivals.items()}
    records: list[Record] = []
    for name, rival in ready.items():
        if isinstance(rival, str):
            records.append({"contender": name, "skipped": rival})
        else:
            pairs = measure.paired(ours, prepared(name, rival), clock)
            records.append({"contender": name, **pairs.summary()})
    return records


def memory(case: Case, contender: str) -> list[Record]:
    """The peak of one contender."""
    measure.pin()
    return [{"contender": contender, **measure.peak(CONTENDERS[contender], case)}]


def scale(case: Case) -> list[Record]:
    """CPU seconds of ours for a path and step, at 10³ … 10⁶ paths in turns; least of the rounds."""
    measure.pin()
    sizes = (1_000, 10_000, 100_000, 1_000_000)
    runs = {n: CONTENDERS[OURS](replace(case, batch=n)) for n in sizes}
    found: dict[int, list[float]] = {n: [] for n in sizes}
    for turn in range(measure.ROUNDS + 1):
        for n, run in runs.items():
            assert run is not None
            repeats = max(1, 20_000 // n)
            start = time.process_time()
            for _ in range(repeats):
                run(turn)
            if turn:
                spent = time.process_time() - start
                found[n].append(spent / repeats / n / case.steps)
    return [{"batch": n, "per_path_step": min(times)} for n, times in found.items()]


def variance(name: str) -> list[Record]:
    """Mean square error and time of every way to estimate a number, against plain Monte Carlo."""
    from benchmarks.variance import TASKS, errors

    measure.pin()
    return [{"model": name, **row} for row in errors(TASKS[name]())]


def seeds(case: Case) -> list[Record]:
    """Ten policies as one ensemble, beside one of them alone."""
    from benchmarks.ensembles import ensembles

    measure.pin()
    return list(ensembles(case))


KINDS: dict[str, Callable[..., list[Record]]] = {
    f.__name__: f for f in (one_thread, all_cores, memory, scale, variance, seeds)
}


def main() -> None:
    """Do what the argument says."""
    task = json.loads(sys.argv[1])
    kind = KINDS[task.pop("kind")]
    if "case" in task:
        task["case"] = Case(**task["case"])
    print(json.dumps(kind(**task)))


if __name__ == "__main__":
    main()
