"""metrics.jsonl: one object an iteration; all but `timing` is the same at every repetition."""

import json
import os
from pathlib import Path
from typing import Any

from ctcontrol import Estimate, Iteration
from ctcontrol_diffusion.run.files import finite, to_json, write_atomically

Record = dict[str, Any]
"""One line of metrics.jsonl; None stands for numbers that there are not."""


def record_of(iteration: Iteration, images: int, seconds: float, elapsed: float) -> Record:
    """What is kept of an iteration.

    Args:
        iteration: numbers of the rollout *before* its update.
        images: trajectories simulated so far, this iteration included.
        seconds: time this iteration took.
        elapsed: time all iterations took, over all restarts.
    """
    record = {
        "iteration": iteration.index,
        "images": images,
        "returns": _pair(iteration.returns),
        "reward": _pair(iteration.reward),
        "divergence": _pair(iteration.divergence),
        "policy_loss": iteration.policy_loss,
        "clip_fraction": iteration.clip_fraction,
        "log_ratio": iteration.log_ratio,
        "gradient_norm": iteration.gradient_norm,
        "updates": iteration.updates,
        "value_loss": iteration.value_loss,
        "explained_variance": iteration.explained_variance,
        "timing": {
            "seconds": seconds,
            "elapsed": elapsed,
            "images_per_second": iteration.trajectory.batch / seconds,
        },
    }
    return finite(record)


def _pair(estimate: Estimate) -> dict[str, float]:
    return {"mean": estimate.mean, "stderr": estimate.stderr}


class Metrics:
    """The file metrics.jsonl of a run, appended to line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: Record) -> None:
        """Add one line and make it durable."""
        with self.path.open("ab") as file:
            file.write((to_json(record) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> list[Record]:
        """All whole lines, in order; a line that a crash cut short is left out."""
        return [json.loads(line) for line in self._whole_lines()]

    def truncate(self, iterations: int) -> list[Record]:
        """Forget iteration `iterations` and all later ones; returns what is left."""
        kept = [line for line in self._whole_lines() if json.loads(line)["iteration"] < iterations]
        if self.path.exists():
            write_atomically(self.path, b"".join(line + b"\n" for line in kept))
        return [json.loads(line) for line in kept]

    def _whole_lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        lines: list[bytes] = []
        for line in self.path.read_bytes().split(b"\n")[:-1]:
            try:
                whole = isinstance(json.loads(line).get("iteration"), int)
            except (ValueError, AttributeError):
                whole = False
            if not whole:
                break
            lines.append(line)
        return lines
