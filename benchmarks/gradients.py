"""Gradients of the mean cost with respect to a gain: what they cost, and how far off they are.

`python -m benchmarks.gradients` measures every method in a process of its own, and writes
benchmarks/results/gradients.json and the table of docs/performance.md.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import measure, report
from benchmarks.cases import Case, Numbers, Rollout, Run
from benchmarks.gradient_rivals import RIVALS, gain
from benchmarks.models import Linear

Record = dict[str, Any]
Method = Callable[[Case], Run | None]
"""Prepares a case; its run returns ∂J/∂K, (m, d), as the `final` of a `Rollout`."""

RESULTS = Path(__file__).parent / "results" / "gradients.json"
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARKERS = re.compile(r"(<!-- gradients: begin -->\n).*?(<!-- gradients: end -->)", re.DOTALL)
CASES = (Case("OU", 10_000, 100, "float32", True), Case("LQ", 10_000, 100, "float32", True))
SEEDS = 16
"""Independent gradients whose mean is held against the truth; their spread is its error bar."""
PATIENCE = 5.0
"""Seconds of one gradient beyond which few are made."""


Way = Literal["autograd", "checkpoint", "adjoint", "forward", "moments", "none"]


def _ours(way: Way) -> Method:
    def prepare(case: Case) -> Run | None:
        import torch

        from benchmarks.rivals.ours import lq
        from ctcontrol import TimeGrid, rollout_gradient, simulate
        from ctcontrol.exact.lq import LinearGaussianPolicy

        model = case.model
        assert isinstance(model, Linear)
        dtype = torch.float32 if case.dtype == "float32" else torch.float64
        exact = lq(case)
        problem, policy = exact.problem(dtype), LinearGaussianPolicy(gain(case), dtype=dtype)
        grid = TimeGrid.uniform(model.horizon, case.steps)
        if way == "forward" and model.K.size > 4:
            return None

        def run(seed: int) -> Rollout:
            generator = torch.Generator().manual_seed(seed)
            if way == "moments":
                return Rollout(exact.chain(grid.times.numpy()).gradient(policy).gain)
            if way == "none":
                simulate(problem, policy, grid, case.batch, generator=generator, store="none")
                return Rollout(np.full_like(model.K, np.nan))
            found = rollout_gradient(
                problem, policy, grid, case.batch, generator=generator, method=way
            )
            return Rollout(found.gradient["gain"].numpy())

        return run

    return prepare


METHODS: dict[str, Method] = {
    "ctcontrol, no gradient": _ours("none"),
    "ctcontrol, autograd": _ours("autograd"),
    "ctcontrol, checkpoint": _ours("checkpoint"),
    "ctcontrol, adjoint": _ours("adjoint"),
    "ctcontrol, forward": _ours("forward"),
    "ctcontrol, exact moments": _ours("moments"),
    **RIVALS,
}


def truth(case: Case) -> tuple[Numbers, Numbers]:
    """∂J/∂K of the Euler–Maruyama chain and of the process in continuous time."""
    from benchmarks.rivals.ours import lq
    from ctcontrol.exact.lq import LinearGaussianPolicy

    assert isinstance(case.model, Linear)
    problem, policy = lq(case), LinearGaussianPolicy(gain(case))
    times = np.linspace(0, case.model.horizon, case.steps + 1)
    return problem.chain(times).gradient(policy).gain, problem.gradient(policy).gain


def row(case: Case, name: str) -> Record:
    """One method on one case: CPU seconds, extra MB, and how far off the gradient is.

    Of the gradient's mean over seeds the component along the exact one counts, beside the exact
    one of the Euler–Maruyama chain and beside that of continuous time.
    """
    measure.pin()
    found: Record = {"case": str(case), "method": name}
    method = METHODS[name]
    if method(case) is None:
        return found | {"skipped": "cannot"}
    found["extra"] = measure.peak(method, case)["extra"]
    run = method(case)
    assert run is not None
    seconds, gradients = [], []
    for seed in range(SEEDS):
        start = time.process_time()
        gradients.append(run(seed).final.astype(np.float64))
        seconds.append(time.process_time() - start)
        if seed and seconds[-1] > PATIENCE:
            break
    chain, limit = truth(case)
    along = [float((g * chain).sum() / (chain * chain).sum()) for g in gradients]
    found |= {"seconds": min(seconds), "seeds": len(along)}
    if along[0] != along[0]:
        return found
    mean, error = statistics.fmean(along), statistics.stdev(along) / len(along) ** 0.5
    beyond = float((limit * chain).sum() / (chain * chain).sum())
    return found | {
        "over_chain": mean - 1,
        "over_limit": mean / beyond - 1,
        "error": error,
        "chain": float(np.linalg.norm(chain)),
        "limit": float(np.linalg.norm(limit)),
    }


def rows(cases: tuple[Case, ...] = CASES) -> list[Record]:
    """All methods on these cases, each in a process of its own."""
    found: list[Record] = []
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "EQX_ON_ERROR": "nan"}
    for case in cases:
        for name in METHODS:
            print(f"{case}: {name}", file=sys.stderr, flush=True)
            task = json.dumps([case.__dict__, name])
            words = [sys.executable, "-m", "benchmarks.gradients", task]
            done = subprocess.run(
                words, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["killed"])[-1]
                found.append({"case": str(case), "method": name, "skipped": reason[:200]})
            else:
                found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def table(found: list[Record]) -> str:
    """The rows in Markdown: cost beside our forward pass, memory, and error of the gradient."""
    lines: list[str] = []
    for case in dict.fromkeys(record["case"] for record in found):
        some = [r for r in found if r["case"] == case and "seconds" in r]
        base = next(r["seconds"] for r in some if r["method"] == "ctcontrol, no gradient")
        lines += [
            f"**{case}**",
            "",
            "| method | CPU ms | × forward | extra MB | off the chain, % | off limit, % | ± % |",
            "|---|--:|--:|--:|--:|--:|--:|",
        ]
        for r in some:
            off = ["—"] * 3
            if "error" in r:
                off = [f"{100 * r['over_chain']:+.1f}", f"{100 * r['over_limit']:+.1f}"]
                off.append(f"{100 * r['error']:.1f}")
            cells = [f"{1e3 * r['seconds']:.0f}", f"{r['seconds'] / base:.1f}", f"{r['extra']:.0f}"]
            lines.append(f"| {' | '.join([r['method'], *cells, *off])} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure everything, or the one row that the argument names."""
    if len(sys.argv) > 1:
        case, name = json.loads(sys.argv[1])
        print(json.dumps(row(Case(**case), name)))
        return
    before = os.getloadavg()[0]
    found = {"rows": rows(), "machine": report.machine(before)}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text("utf-8"), found), encoding="utf-8")


def filled(page: str, found: Record) -> str:
    """The page with a new table between its markers."""
    about = found["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    where = f"{about['processor']}, one thread, {about['date']}; {versions}."
    return MARKERS.sub(lambda m: f"{m[1]}\n{where}\n\n{table(found['rows'])}\n{m[2]}", page)


if __name__ == "__main__":
    main()
