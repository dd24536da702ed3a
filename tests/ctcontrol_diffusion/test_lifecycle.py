"""Whole lives of runs on tiny models: trained, killed, resumed, evaluated, exported, used."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ctcontrol_diffusion.evaluate import main as evaluate
from ctcontrol_diffusion.export import main as export
from ctcontrol_diffusion.sample import main as sample
from tests.ctcontrol_diffusion.adapted import pipeline
from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd, tiny_sdxl
from tests.runs import assert_same, evaluation, train
from tests.started import program

SMALL = (
    "--problem.reward brightness --device cpu --threads 1 --iterations 2 --checkpoint-every 1 "
    "--rollout.batch 4 --rollout.steps 3 --update.minibatch 6 --update.warmup 0 "
    "--update.learning-rate 1e-2 --critic.minibatch 6 --critic.width 8 --critic.policy-waits 0 "
    "--evaluation.steps 2 --evaluation.images 4 --evaluation.grid 1 --problem.schedulers dpm++2m "
    "--problem.precision float32"
)
PROMPTED = f"sd15-jpeg {SMALL} --micro-batch 3 --problem.images-per-prompt 2 --problem.held-out 0.5"
PIXELS = f"cifar10-t4 {SMALL}"
KINDS: dict[str, tuple[Callable[[Path], str], str]] = {
    "pixels": (tiny_pixels, f"{PIXELS} --problem.trained all"),
    "pixels, lora": (tiny_pixels, f"{PIXELS} --problem.trained lora"),
    "sd": (tiny_sd, PROMPTED),
    "v-prediction": (lambda folder: tiny_sd(folder, "v_prediction"), PROMPTED),
    "sdxl": (tiny_sdxl, PROMPTED),
}
KILLED = """
import os, sys
import torch; torch.set_num_threads(1)
from ctcontrol_diffusion.run import checkpoint, keeper
from ctcontrol_diffusion.train import main
save = checkpoint.save_checkpoint
def once(*args):
    save(*args)
    os._exit(9)
keeper.save_checkpoint = once
main(sys.argv[1:])
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_life(kind: str, tmp_path: Path) -> None:
    """And the other program that loads what is exported draws with it."""
    make, said = KINDS[kind]
    model = make(tmp_path / "model")
    words = [*said.split(), "--problem.model", model]
    run, killed, out = tmp_path / "run", tmp_path / "killed", tmp_path / "exported"
    assert train(*words, "--run-dir", run) == 0
    done = program(KILLED, *words, "--run-dir", killed)
    assert done.returncode == 9, done.stderr
    assert train("--resume", killed) == 0
    assert_same(killed, run)

    rows = evaluation(run)
    assert {row["labels"]["sampler"] for row in rows["after"]} == {"SDE", "ODE", "dpm++2m"}
    assert rows["before"] != rows["after"]
    assert evaluate([str(run), "--steps", "2", "--schedulers", "ode,heun", "--images", "3"]) == 0
    found = list((run / "evaluations").glob("evaluation-*.json"))
    assert len(found) == 2, "before and after"
    assert all(json.loads(file.read_text()) for file in found)

    assert export([str(run), "--out", str(out)]) == 0
    grid = tmp_path / "grid.png"
    named = ["--prompts", "owl"] if "prompt" in said else []
    assert sample([str(run), *named, "--n", "2", "--columns", "2", "--out", str(grid)]) == 0
    with Image.open(grid) as image:
        assert image.size[0] > 16
    one, two, base = (images(model, folder) for folder in (out, out, None))
    assert torch.equal(one, two)
    assert float((one - base).abs().max()) > 1e-4, "what was trained is there"


def images(model: str, exported: Path | None) -> torch.Tensor:
    """What a fresh pipeline of diffusers draws with what was exported, or without."""
    if exported is None or (exported / "pytorch_lora_weights.safetensors").exists():
        loaded = pipeline(model)
        if exported is not None:
            loaded.load_lora_weights(exported)
    else:
        loaded = pipeline(exported)
    told: dict[str, Any] = {"prompt": "an owl"} if hasattr(loaded, "encode_prompt") else {}
    drawn = loaded(
        **told, num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(0)
    )
    return torch.as_tensor(drawn.images)
