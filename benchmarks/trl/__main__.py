"""`python -m benchmarks.trl ENVIRONMENT`: both sides in turn, the median of their ratio."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.trl.work import Work

HERE = Path(__file__).parent
PROMISE = 0.8
"""Our time over TRL's, at most, on the tiny pipeline."""

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "small": {"block_out_channels": (32, 64)},
    "filling": {"block_out_channels": (64, 128), "sample_size": 16},
}
"""Changes of the UNet of tests/ctcontrol_diffusion/tiny.py: from one whose time is that of calling
PyTorch to one whose time is arithmetic."""


def main() -> int:
    """Measure, print and keep; returns 1 if the promise is not kept."""
    parser = ArgumentParser(prog="python -m benchmarks.trl", description=__doc__)
    parser.add_argument("environment", type=Path, help="folder of the virtual environment of TRL")
    parser.add_argument("--pairs", type=int, default=7, help="runs of each side, in turn")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--json", type=Path, help="file to keep the measurements in")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            _row(size, work, chosen.environment, chosen.pairs)
            for size in chosen.sizes
            for work in _works(size, Path(folder))
        ]
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    kept = [row["ratio"] <= PROMISE for row in rows if row["promised"]]
    if kept:
        print(f"promised ≤ {PROMISE} on the tiny pipeline: {'kept' if all(kept) else 'not kept'}")
    return 0 if all(kept) else 1


def _works(size: str, folder: Path) -> list[Work]:
    """All rows of an update together, as without a micro-batch, and as many as TRL can."""
    from tests.ctcontrol_diffusion.tiny import tiny_sd

    work = Work(tiny_sd(folder / size, **SIZES[size]))
    if size == "filling":  # where there is nothing to gain by more at once
        return [replace(work, at_once=work.images, iterations=1)]
    return [work, replace(work, at_once=work.images)]


def _row(size: str, work: Work, environment: Path, pairs: int) -> dict[str, Any]:
    theirs = [str(environment / "bin" / "python"), str(HERE / "theirs.py")]
    ours = [sys.executable, "-m", "benchmarks.trl.ours"]
    runs = [(_run(ours, work), _run(theirs, work)) for _ in range(pairs)]
    times = [[statistics.median(side["seconds"]) for side in pair] for pair in runs]
    ratios = sorted(ours / theirs for ours, theirs in times)
    row: dict[str, Any] = {
        "size": size,
        "images": work.images,
        "steps": work.steps,
        "at_once": work.at_once or work.images * work.steps,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "seconds": [statistics.median(side) for side in zip(*times, strict=True)],
        "rows": [side["rows"] for side in runs[0]],
        "trainable": [side["trainable"] for side in runs[0]],
        "moved": [side["moved"] for side in runs[0]],
        "versions": [side["versions"] for side in runs[0]],
        "promised": size == "tiny" and work.at_once is None,
    }
    print(
        f"{size}, {row['at_once']} at once: {row['seconds'][0]:.3f} s, TRL {row['seconds'][1]:.3f} "
        f"s, ratio {row['ratio']:.2f} ({ratios[0]:.2f} … {ratios[-1]:.2f}); through the network "
        f"{_counted(row['rows'][0])}, TRL {_counted(row['rows'][1])}",
        flush=True,
    )
    return row


def _counted(rows: Mapping[str, int]) -> str:
    return f"{rows['drawn']} drawn + {rows['trained']} trained"


def _run(command: list[str], work: Work) -> dict[str, Any]:
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(
        [*command, work.words()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | quiet,
        cwd=HERE.parents[1],
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
