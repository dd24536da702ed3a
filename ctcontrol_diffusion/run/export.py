"""What a run has trained as a folder for other programs, with a card that says where it is from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.run.checkpoint import load_policy
from ctcontrol_diffusion.run.config_file import config_to_json
from ctcontrol_diffusion.run.directory import RunDirectory, open_run
from ctcontrol_diffusion.run.draw import checkpoint_path
from ctcontrol_diffusion.run.files import to_json, whole_folder, write_atomically
from ctcontrol_diffusion.run.identity import check_networks
from ctcontrol_diffusion.run.model_card import CARD, card

TRAINING = "training.json"


def export_run(folder: Path, out: Path, checkpoint: str, device: str | None = None) -> str:
    """Write a checkpoint of the run in `folder` into the new folder `out`, which appears complete
    or not at all; returns a sentence saying what was written and compared.

    Args:
        folder: of the run.
        out: must not exist; its parent must.
        checkpoint: `last`, `best` or a number of iterations.
        device: to compute on; the run's if None.

    Raises:
        CtcontrolError: no such run or checkpoint, or nothing that another program loads.
        Mismatch: what was written does not do what was trained; nothing is left.
        OSError: `out` cannot be written.
    """
    directory = open_run(folder)
    config = check_config(_without_reward(directory.config, device))
    path = checkpoint_path(directory, checkpoint)
    torch.set_num_threads(config.threads)
    experiment = build(config)
    publish = experiment.setting.publish
    if publish is None:
        raise CtcontrolError(f"the run in {folder} trains nothing that another program loads")
    check_networks(directory, experiment)
    load_policy(path, experiment)
    with whole_folder(out) as made:
        published = publish(made)
        iterations = int(path.name)
        write_atomically(made / TRAINING, to_json(_facts(directory, iterations), indent=1))
        write_atomically(made / CARD, card(directory, iterations, published, out.name))
    what = {"lora": "adapters", "pipeline": "pipeline", "denoiser": "denoiser"}[published.kind]
    return f"{what} of {folder} after iteration {iterations}: {published.sentence()}; {out}"


def _without_reward(config: Config, device: str | None) -> Config:
    """The same network by a config that asks for no reward's weights, server or real images."""
    unneeded: dict[str, Any] = {"reward": "brightness", "features": None, "real": None}
    there = {key: value for key, value in unneeded.items() if hasattr(config.problem, key)}
    return replace(
        config,
        problem=replace(config.problem, **there),
        device=config.device if device is None else device,
    )


def _facts(directory: RunDirectory, iterations: int) -> dict[str, Any]:
    return {
        "preset": directory.preset,
        "command": directory.command,
        "iterations": iterations,
        "config": config_to_json(directory.config),
        "initial_weights": directory.weights,
        "versions": directory.versions,
        "evaluation": json.loads(to_json(directory.evaluation())),
    }
