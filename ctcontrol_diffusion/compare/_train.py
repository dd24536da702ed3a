"""Training without keeping anything but numbers and a few pictures."""

import statistics
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch

from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.compare._outcome import BEFORE, Cell, Outcome
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.report.tiles import Tiles
from ctcontrol_diffusion.run.album import Album


def before_training(
    config: Config, judge: str | None, columns: int
) -> tuple[Outcome, Tiles | None]:
    """The model as it is; its seed is of no consequence."""
    experiment = _built(config)
    outcome = Outcome(BEFORE, config.seed, 0, None, _cells(experiment, judge))
    return outcome, _tiles(experiment, columns)


def train_once(
    name: str, config: Config, judge: str | None, columns: int
) -> tuple[Outcome, Tiles | None]:
    """Train `config`, measure, and draw."""
    experiment = _built(config)
    seconds, began = list[float](), time.perf_counter()
    for _ in islice(experiment.iterations(), config.iterations):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    outcome = Outcome(
        preset=name,
        seed=config.seed,
        images=config.iterations * config.rollout.batch,
        seconds=statistics.median(seconds),
        cells=_cells(experiment, judge),
    )
    return outcome, _tiles(experiment, columns)


def _built(config: Config) -> Experiment:
    torch.set_num_threads(config.threads)
    return build(config)


def _cells(experiment: Experiment, judge: str | None) -> tuple[Cell, ...]:
    """By the stochastic sampler, where there are samplers."""
    setting = experiment.setting
    if setting.inspector is None:
        rows = setting.evaluate(setting.mean, _silent)
    else:
        judges = {} if judge is None else {"judge": setting.inspector.load(judge)}
        plan = replace(setting.inspector.plan, samplers=("SDE",), rewards=judges)
        rows = setting.inspector.rows(setting.mean, plan, _silent)
    return tuple(
        Cell(dict(row.labels), {key: value for key, (value, _) in row.numbers.items()})
        for row in rows
    )


def _tiles(experiment: Experiment, columns: int) -> Tiles | None:
    setting, config = experiment.setting, experiment.config
    if setting.pictures is None or not columns:
        return None
    album = Album(
        Path(),  # nothing is written
        setting,
        setting.pictures,
        columns=columns,
        steps=config.rollout.steps,
        device=experiment.generator.device,
    )
    return album.drawn()


def _silent(done: int, total: int) -> None:
    pass
