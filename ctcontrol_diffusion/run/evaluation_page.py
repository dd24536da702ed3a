"""evaluation-*.html: the page of an evaluation."""

from typing import Any

import numpy as np

from ctcontrol_diffusion.inspection import Plan
from ctcontrol_diffusion.report import blocks as b
from ctcontrol_diffusion.report.page import page
from ctcontrol_diffusion.report.tiles import Tiles
from ctcontrol_diffusion.run.book import Book
from ctcontrol_diffusion.run.evaluation_blocks import (
    comparison_table,
    curves_over_steps,
    kl_curves,
    prompt_table,
    statistics_table,
)
from ctcontrol_diffusion.run.files import to_json, write_atomically
from ctcontrol_diffusion.run.table import compare, titles_of


def write_page(book: Book, base: Book | None, plan: Plan) -> None:
    """Write the page of `book` from what is in it, beside the same cells of the base model."""
    write_atomically(book.page, evaluation_page(book, base, plan))


def evaluation_page(book: Book, base: Book | None, plan: Plan) -> str:
    """The page as text."""
    after = book.rows(plan)
    before = [] if base is None else base.rows(plan)
    sides = {"before": before, "after": after} | book.notes
    titles = titles_of(sides)
    what = "the pretrained model" if book.model == "base" else f"iteration {int(book.model)}"
    return page(
        f"Evaluation of {what}",
        f"{plan.images:,} images a cell, seed {plan.seed}, from {book.notes['run']}. Intervals are "
        "± one standard error; every cell starts from the same noise.",
        b.section("Warnings", *(b.note(text) for text in warnings_of(after))),
        b.section("All cells", comparison_table(compare(sides)), *_protocol(plan)),
        b.section("Over the number of steps", curves_over_steps(after, titles)),
        b.section("KL to the pretrained model, step by step", kl_curves(after)),
        b.section("Image statistics", statistics_table(before, after)),
        b.section("Prompts", prompt_table(before, after)),
        b.section("Samples", _samples(book, base, plan)),
        b.section("Repeat it", b.code(book.notes["command"]), _details(book)),
    )


def warnings_of(rows: list[dict[str, Any]]) -> list[str]:
    """One sentence for every statistic of a cell that drifted from the pretrained model."""
    return [
        f"{', '.join(map(str, row['labels'].values()))}: {drift['sentence']}"
        for row in rows
        for drift in row.get("drift", {}).values()
        if drift["alarming"]
    ]


def _protocol(plan: Plan) -> list[str]:
    if plan.real is None:
        return []
    return [
        b.note(
            f"{plan.real.title(plan.images)}: {plan.images:,} samples against "
            f"{len(plan.real.real):,} real images, features: {plan.real.name}. Published FIDs are "
            "of 50,000 samples; of fewer the distance is larger, so that it compares only with "
            "others of the same number."
        )
    ]


def _samples(book: Book, base: Book | None, plan: Plan) -> str:
    pairs = [
        (None if base is None else base.tiles(cell), book.tiles(cell)) for cell in plan.cells()
    ]
    now = [tiles for _, tiles in pairs if tiles is not None]
    was = [tiles for tiles, _ in pairs if tiles is not None]
    if not now:
        return ""
    if len(was) != len(now):
        return b.film(_stacked(now), "samples")
    return b.side_by_side(_stacked(was), _stacked(now), ("before", "after"))


def _stacked(tiles: list[Tiles]) -> Tiles:
    """Rows of several cells below each other."""
    names = [name for some in tiles for name in some.prompts]
    return Tiles(names, np.concatenate([some.pixels for some in tiles]))


def _details(book: Book) -> str:
    versions = "\n".join(f"{name} {number}" for name, number in book.notes["versions"].items())
    question = to_json(book.question, indent=2)
    return b.details("Versions, and what the numbers depend on", b.code(versions), b.code(question))
