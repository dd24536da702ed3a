"""`evaluate` on every kind of model of diffusers: latents, two text encoders, v, pixels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctcontrol_diffusion.evaluate import main
from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd, tiny_sdxl
from tests.runs import train

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers, NumPy 2

KINDS: dict[str, Callable[[Path], str]] = {
    "sd": tiny_sd,
    "v-prediction": lambda folder: tiny_sd(folder, "v_prediction"),
    "sdxl": tiny_sdxl,
}
RUN = (
    "--device cpu --threads 1 --problem.reward brightness --problem.kl-weight 1e-3 --iterations 2 "
    "--rollout.batch 4 --rollout.steps 2 --update.minibatch 4 --update.warmup 0 --critic.minibatch "
    "4 --critic.width 8 --critic.policy-waits 0 --update.learning-rate 1e-2 --evaluation.steps 2 "
    "--evaluation.images 4 --evaluation.grid 1 --evaluation.rewards symmetry "
    "--evaluation.watch-every 1 --evaluation.watch-images 4 --evaluation.stop-on symmetry"
).split()
GRID = "--steps 2,3 --schedulers sde,ode,ddim,dpm++2m,heun --images 4".split()


def evaluated(run: Path, out: Path, *words: str) -> dict[str, Any]:
    assert main([str(run), *words, "--out", str(out)]) == 0
    (path,) = (p for p in out.glob("evaluation-*.json") if "-base-" not in p.name)
    return json.loads(path.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_prompted_models(kind: str, tmp_path: Path) -> None:
    """Seen and unseen prompts apart; prompts of a file that the model has never met."""
    run = tmp_path / "run"
    words = ["--problem.prompts", "activities", "--problem.held-out", "0.5", "--run-dir", str(run)]
    model = KINDS[kind](tmp_path / "model")
    assert train("sd15-jpeg-ddpo", "--problem.model", model, *RUN, *words) == 0
    content = evaluated(run, tmp_path / "out", *GRID)
    assert len(content["cells"]) == 2 * 5 * 2
    assert {cell["labels"]["prompts"] for cell in content["cells"]} == {"seen", "unseen"}
    for cell in content["cells"]:
        assert {"reward", "symmetry"} <= cell["numbers"].keys()
        assert len(cell["prompts"]) == 3
        assert ("kl_steps" in cell) == (cell["labels"]["sampler"] == "SDE")
    assert content["question"]["rewards"] == ["symmetry"]
    file = tmp_path / "prompts.txt"
    file.write_text("a fish on a tree\npainting a fence\n")
    words = ["--steps", "2", "--schedulers", "sde", "--prompts", str(file)]
    content = evaluated(run, tmp_path / "more", *words)
    assert sum(len(cell["prompts"]) for cell in content["cells"]) == 2
    texts = {entry["prompt"] for cell in content["cells"] for entry in cell["prompts"]}
    assert texts == {"a fish on a tree", "painting a fence"}


@pytest.mark.parametrize("classes", [None, 3])
def test_pixel_models(classes: int | None, tmp_path: Path) -> None:
    run = tmp_path / "run"
    model = tiny_pixels(tmp_path / "model", num_class_embeds=classes)
    words = ["--problem.model", model, "--run-dir", str(run)]
    assert train("cifar10-t4-ddpo", *RUN, *words) == 0
    content = evaluated(run, tmp_path / "out", *GRID)
    assert len(content["cells"]) == 5 * 2
    assert [len(cell.get("prompts", [])) for cell in content["cells"]] == [classes or 0] * 10
    assert all(cell["numbers"]["symmetry"]["stderr"] > 0 for cell in content["cells"])
