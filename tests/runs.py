"""Small runs of the commands, for the tests of the application."""

import json
import shlex
from pathlib import Path
from typing import Any

from ctcontrol_diffusion.train import main

LQ = shlex.split(
    "lq-smoke --threads 1 --iterations 6 --checkpoint-every 2 --rollout.batch 32 "
    "--rollout.steps 8 --update.minibatch 64 --update.averaged 0.7 --critic.minibatch 64 "
    "--critic.width 8"
)
DIGITS = shlex.split(
    "digits --threads 1 --iterations 3 --checkpoint-every 1 --rollout.batch 12 --rollout.steps 4 "
    "--update.minibatch 24 --critic.minibatch 24 --critic.width 8 --evaluation.steps 2 4 "
    "--evaluation.images 20 --evaluation.grid 3 --update.share 0.5 "
    "--critic.policy-waits 0 --problem.kl-weight 1"
)


def train(*words: str | Path) -> int:
    """The train command in this process."""
    return main([str(word) for word in words])


def records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in record.items() if k != "timing"} for record in found]


def evaluation(folder: Path) -> dict[str, Any]:
    """evaluation.json."""
    return json.loads((folder / "evaluation.json").read_text())


def checkpoints(folder: Path) -> list[str]:
    """Names below checkpoints/, whatever they are."""
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def assert_same(run: Path, whole: Path) -> None:
    """Metrics, evaluations and checkpoints agree bit for bit."""
    assert records(run) == records(whole)
    assert evaluation(run) == evaluation(whole)
    for name in checkpoints(whole):
        for file in (whole / "checkpoints" / name).glob("*.safetensors"):
            assert (run / "checkpoints" / name / file.name).read_bytes() == file.read_bytes()
