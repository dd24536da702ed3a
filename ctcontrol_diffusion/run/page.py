"""report.html: the page of a run."""

from dataclasses import replace
from typing import Any

import numpy as np

from ctcontrol_diffusion.report import blocks as b
from ctcontrol_diffusion.report.curves import Curve, Level, figure, figures
from ctcontrol_diffusion.report.page import page
from ctcontrol_diffusion.report.tiles import Tiles
from ctcontrol_diffusion.run.album import moments, read_tiles
from ctcontrol_diffusion.run.config_file import config_to_json
from ctcontrol_diffusion.run.directory import RunDirectory
from ctcontrol_diffusion.run.evaluation_blocks import (
    comparison_table,
    kl_curves,
    statistics_table,
    watched_curves,
)
from ctcontrol_diffusion.run.files import to_json, write_atomically
from ctcontrol_diffusion.run.looks import alarms
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.table import Cell, compare
from ctcontrol_diffusion.run.wording import clock, pair, plain

FRAMES = 10
"""Moments shown of the way from before to after, at most."""


def write_report(directory: RunDirectory) -> None:
    """Write the page from what the run has kept so far."""
    write_atomically(directory.report, report(directory))


def report(directory: RunDirectory) -> str:
    """The page as text."""
    records, evaluation = directory.metrics.read(), directory.evaluation()
    config = directory.config
    return page(
        f"{directory.preset}: {config.algorithm}, {len(records)} iterations",
        _lead(directory, records),
        _headline(directory, evaluation),
        b.section("Warnings", *_warnings(records)),
        b.section("Samples, before and after", *_samples(directory)),
        b.section("Evaluation", comparison_table(compare(evaluation)), *_best(evaluation)),
        b.section("Yardsticks", _facts(evaluation)),
        b.section("Training", _curves(records, evaluation)),
        b.section("Watched on the way", watched_curves(records)),
        b.section("KL to the pretrained model, step by step", kl_curves(_rows(evaluation))),
        b.section(
            "Image statistics",
            statistics_table(evaluation.get("before", []), evaluation.get("after", [])),
        ),
        b.section("The way there", *_film(directory)),
        b.section("Repeat it", b.code(directory.command), *_details(directory)),
    )


def _lead(directory: RunDirectory, records: list[Record]) -> str:
    if not records:
        return "No iteration is done yet."
    last = records[-1]
    config = directory.config
    return (
        f"{last['images']:,} trajectories of {config.rollout.steps} steps in "
        f"{clock(last['timing']['elapsed'])} on {config.device}, {config.threads} "
        f"thread{'s' if config.threads > 1 else ''}, seed {config.seed}."
    )


def _headline(directory: RunDirectory, evaluation: dict[str, Any]) -> str:
    """The row of the evaluation that is nearest to training: its step count, its first sampler."""
    both = compare(evaluation)
    if not both.rows:
        return ""
    steps = str(directory.config.rollout.steps)
    labels, cells = next((row for row in both.rows if steps in row[0]), both.rows[0])
    where = ", ".join(f"{name} {label}" for name, label in zip(both.labels, labels, strict=True))
    return b.cards(
        _card(both.title(name), before, after, where)
        for name, (before, after) in zip(both.numbers, cells, strict=True)
        if before[0] is not None or after[0] is not None
    )


def _card(name: str, before: Cell, after: Cell, where: str) -> b.Card:
    if after[0] is None:
        before, after = after, before
    value, _, error = pair(*after).partition(" ")
    was = pair(*before).partition(" ")[0] if before[0] is not None else ""
    return b.Card(name, value, error, was, where)


def _rows(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    return evaluation.get("after", evaluation.get("before", []))


def _warnings(records: list[Record]) -> list[str]:
    """What the last look found to have drifted."""
    return [
        b.note(
            f"{plain(name)} moved by {pair(drift['shift'], drift['stderr'])}, "
            f"{abs(drift['size']):.1f} times the spread of the pretrained model's images: a reward "
            "may be exploited instead of followed; look at the samples."
        )
        for name, drift in alarms(records).items()
    ]


def _best(evaluation: dict[str, Any]) -> list[str]:
    if "best" not in evaluation:
        return []
    best = evaluation["best"]
    return [
        b.note(
            f"After: the checkpoint of iteration {best['iterations']}, at which the held-out "
            f"reward {best['by']} was highest."
        )
    ]


def _facts(evaluation: dict[str, Any]) -> str:
    facts = evaluation.get("facts", {"numbers": {}, "texts": {}})
    return b.facts(
        (plain(name), pair(number["value"], number["stderr"]), facts["texts"].get(name, ""))
        for name, number in facts["numbers"].items()
    )


def _curves(records: list[Record], evaluation: dict[str, Any]) -> str:
    """Each quantity over the iterations, as rollouts saw it before their update."""
    if not records:
        return ""

    def single(name: str) -> Curve:
        return Curve(plain(name), _iterations(records), [r[name] for r in records])

    def banded(name: str) -> Curve:
        means, errors = ([r[name][part] for r in records] for part in ("mean", "stderr"))
        return Curve(plain(name), _iterations(records), means, errors)

    moved = any(record["divergence"]["mean"] for record in records)
    return figures(
        figure(
            "Reward",
            replace(banded("reward"), name="this run"),
            levels=_levels(evaluation, optimum="exact optimum"),
        ),
        figure("Return: reward less what it costs", banded("returns")) if moved else "",
        figure(
            "KL to the pretrained model, nats a trajectory",
            replace(banded("divergence"), name="this run"),
            levels=_levels(evaluation, ideal_kl="ideal aligned model"),
        )
        if moved
        else "",
        figure("Clip fraction", single("clip_fraction")),
        figure("Variance explained by the value", single("explained_variance")),
        figure("Loss of the value", single("value_loss"), log=True),
        figure("Loss of the policy", single("policy_loss")),
        figure("Norm of the policy's gradient", single("gradient_norm")),
    )


def _levels(evaluation: dict[str, Any], **names: str) -> list[Level]:
    """The facts that a curve can be compared with, those that there are."""
    numbers = evaluation.get("facts", {}).get("numbers", {})
    return [Level(text, numbers[fact]["value"]) for fact, text in names.items() if fact in numbers]


def _iterations(records: list[Record]) -> list[float]:
    return [record["iteration"] for record in records]


def _samples(directory: RunDirectory) -> list[str]:
    folder = directory.samples / "tiles"
    shown = moments(folder)
    if not shown:
        return []
    first, last = read_tiles(folder, shown[0]), read_tiles(folder, shown[-1])
    if first is None or last is None:
        return []
    return [
        b.note(
            "The same noise goes into both; only the policy differs. Each row is a prompt, drawn "
            f"in {directory.config.rollout.steps} steps."
        ),
        b.side_by_side(first, last, ("before", f"after {shown[-1]} iterations")),
    ]


def _film(directory: RunDirectory) -> list[str]:
    folder = directory.samples / "tiles"
    shown = moments(folder)
    if len(shown) < 3:
        return []
    places = np.linspace(0, len(shown) - 1, min(FRAMES, len(shown))).round().astype(int)
    chosen = [shown[place] for place in places]
    frames = [(k, tiles) for k in chosen if (tiles := read_tiles(folder, k)) is not None]
    stacked = np.stack([tiles.pixels[:, 0] for _, tiles in frames], axis=1)
    when = ", ".join(str(k) for k, _ in frames)
    return [
        b.note(f"The first image of each row after {when} iterations."),
        b.film(Tiles(frames[0][1].prompts, stacked), "the same noise along the training"),
    ]


def _details(directory: RunDirectory) -> list[str]:
    versions = "\n".join(f"{name} {number}" for name, number in directory.versions.items())
    config = to_json(config_to_json(directory.config), indent=2)
    return [
        b.note(
            "On the same machine, with these versions and threads, every number of the run comes "
            "out the same."
        ),
        b.details("Versions", b.code(versions)),
        b.details("The whole config", b.code(config)),
    ]
