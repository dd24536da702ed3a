"""Pictures of a run: always the same prompts and noise, so that only the policy differs."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ctcontrol import (
    Context,
    ControlProblem,
    GaussianPolicy,
    MeanFunction,
    Solver,
    TerminalReward,
    TimeGrid,
    Trajectory,
    simulate,
)
from ctcontrol_diffusion.report.tiles import Tiles, comparison, sheet, tiles_of
from ctcontrol_diffusion.run.files import to_json, write_atomically
from ctcontrol_diffusion.settings import Pictures, Setting

SEED = 10_000
DRAWN = 256
LARGEST = 10
"""Rows of a sheet at most, one a prompt."""


def draw(
    problem: ControlProblem,
    mean: MeanFunction,
    solver: Solver,
    context: Context,
    count: int,
    *,
    steps: int,
    generator: torch.Generator,
    micro_batch: int | None = None,
) -> Trajectory:
    """`count` paths of the mean action, one a row of `context`; nothing is rewarded."""

    def initial(batch: int, generator: torch.Generator) -> tuple[Tensor, Context]:
        states, _ = problem.initial(batch, generator)
        return states, context.to(states.device) if isinstance(context, Tensor) else context

    return simulate(
        replace(problem, initial=initial, reward=TerminalReward(_nothing), regularizer=None),
        GaussianPolicy(mean),
        TimeGrid.uniform(problem.horizon, steps),
        count,
        generator=generator,
        solver=solver,
        micro_batch=micro_batch,
    )


def _nothing(x: Tensor, context: Context) -> Tensor:
    return x.new_zeros(len(x))


@dataclass(frozen=True, eq=False)
class Album:
    """The folder samples/ of a run.

    samples/tiles holds the bare images, one file a moment, a prompt a row;
    samples/NNNNNN.png shows them before and after NNNNNN iterations.

    Attributes:
        folder: where pictures go.
        setting: what is sampled.
        pictures: of the setting.
        columns: images a prompt.
        steps: of the sampler.
        device: of the states.
        micro_batch: images through the network at once.
    """

    folder: Path
    setting: Setting
    pictures: Pictures
    columns: int
    steps: int
    device: torch.device
    micro_batch: int | None = None

    def add(self, iterations: int) -> Path:
        """Draw with the policy as it is after `iterations` iterations, and compare with before.

        Returns the file of the comparison, which there is none of before the first iteration.
        """
        tiles = self.drawn()
        write_tiles(self.folder / "tiles", iterations, tiles)
        before = read_tiles(self.folder / "tiles", 0)
        if iterations and before is not None:
            titles = ("before", f"after {iterations} iterations")
            content = comparison(before, tiles, titles)
            write_atomically(self.folder / f"{iterations:06d}.png", content)
        return self.folder / f"{iterations:06d}.png"

    def has(self, iterations: int) -> bool:
        """Whether these pictures are there."""
        return read_tiles(self.folder / "tiles", iterations) is not None

    def drawn(self) -> Tiles:
        """With the policy as it is, one row a prompt."""
        prompts = usual_prompts(self.setting, self.pictures, self.device)
        texts = [prompt for prompt in prompts for _ in range(self.columns)]
        path = draw(
            self.setting.problem,
            self.setting.mean,
            self.setting.solver,
            self.pictures.contexts(texts),
            len(texts),
            steps=self.steps,
            generator=torch.Generator(self.device).manual_seed(SEED),
            micro_batch=self.micro_batch,
        )
        return tiles_of(self.pictures.decode(path.final, path.context), prompts)


def usual_prompts(setting: Setting, pictures: Pictures, device: torch.device) -> list[str]:
    """Some that the problem's initial law draws, in order."""
    generator = torch.Generator(device).manual_seed(SEED)
    _, context = setting.problem.initial(DRAWN, generator)
    return sorted(set(pictures.prompts(context)), key=_natural)[:LARGEST]


def _natural(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (10**9, text)


def write_tiles(folder: Path, iterations: int, tiles: Tiles) -> None:
    """Keep bare images, with index.json saying how to read them back."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns, height, width, channels = tiles.pixels.shape
    index = {"prompts": tiles.prompts, "shape": [rows, columns, height, width, channels]}
    write_atomically(folder / "index.json", to_json(index))
    write_atomically(folder / f"{iterations:06d}.png", sheet(tiles))


def read_tiles(folder: Path, iterations: int) -> Tiles | None:
    """What `write_tiles` kept, or None if it is not there or damaged."""
    file = folder / f"{iterations:06d}.png"
    if not file.is_file():
        return None
    try:
        index = json.loads((folder / "index.json").read_bytes())
        return Tiles.from_sheet(file, index["prompts"], tuple(index["shape"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def moments(folder: Path) -> list[int]:
    """Iterations of which there are bare images, ascending."""
    if not folder.is_dir():
        return []
    return sorted(int(p.stem) for p in folder.glob("*.png") if p.stem.isdecimal())
