"""Learning: every algorithm on problems of known regret, within a stated number of path-steps."""

from dataclasses import dataclass
from functools import cache

import torch

from ctcontrol import CtcontrolError, Estimate
from validation._pool import each
from validation._report import Claim, Plot, Report, Series, Size, equal, pick
from validation.lessons.course import Course
from validation.lessons.methods import METHODS, Run, learn
from validation.lessons.quadratic import merton, regulator
from validation.lessons.tilts import tilt

COURSES = {
    "lq2": lambda: regulator(2, iterations=60, batch=256, bound=0.05),
    "lq10": lambda: regulator(10, iterations=100, batch=256, bound=0.05),
    "merton": lambda: merton(iterations=60, batch=1024, bound=0.05),
    "tilt2": lambda: tilt(2, iterations=30, batch=256, bound=0.15),
    "tilt16": lambda: tilt(16, iterations=30, batch=512, bound=0.3),
}
SMALL = (
    ("lq2", "ppo_noise_aware"),
    ("lq2", "ddpo"),
    ("merton", "ppo_closed_form"),
    ("merton", "q_off"),
    ("merton", "pathwise"),
)
"""What the small size runs; the full size runs all."""
TUNED = (0,)
"""The seed that settings and bounds were set on, and that the small size runs."""
BLIND = tuple(range(5, 10))
"""The seeds of the full size, which nothing was set on."""

NEITHER = {
    "merton": ("pathwise", "proximal", "cqsm", "ddpo"),
    "tilt2": ("q_on", "q_off", "cqsm"),
    "tilt16": ("q_on", "q_off", "cqsm"),
}
"""Methods that the library, or the lack of a closed form, refuses; the table says why."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Row:
    """One method on one course, with several seeds.

    Attributes:
        runs: one a seed; empty where the method does not apply.
        refusal: why it does not.
        path_steps: spent by each run.
    """

    runs: tuple[Run, ...]
    refusal: str
    path_steps: int

    @property
    def regret(self) -> Estimate:
        """At the end, relative to the beginning: the mean of the seeds."""
        last = torch.tensor([run.last.mean for run in self.runs], dtype=torch.float64)
        if len(last) == 1:
            return self.runs[0].last
        return Estimate.of(last)

    @property
    def worst(self) -> float:
        """Of the seeds."""
        return max(run.last.mean for run in self.runs)


@cache
def course_of(name: str) -> Course:
    """The course of this name."""
    return COURSES[name]()


def run(job: tuple[Pair, int]) -> Run | str:
    """One run with one seed, or why the method does not apply."""
    torch.set_num_threads(1)
    pair, seed = job
    try:
        return learn(course_of(pair[0]), METHODS[pair[1]], seed)
    except CtcontrolError as error:
        return str(error)


def table(size: Size, jobs: int) -> dict[Pair, Row]:
    """All rows of a size, whose runs share `jobs` processes."""
    pairs = pick(size, SMALL, tuple((c, m) for c in COURSES for m in METHODS))
    seeds = pick(size, TUNED, BLIND)
    wanted = [(pair, seed) for pair in pairs for seed in seeds]
    found = dict(each(run, wanted, jobs))
    rows: dict[Pair, Row] = {}
    for i, pair in enumerate(pairs):
        mine = [found[i * len(seeds) + k] for k in range(len(seeds))]
        runs = tuple(r for r in mine if isinstance(r, Run))
        refusal = next((r for r in mine if isinstance(r, str)), "")
        rows[pair] = Row(runs, refusal, runs[0].path_steps[-1] if runs else 0)
    return rows


def claim(pair: Pair, row: Row) -> Claim:
    """The bound of the course is reached."""
    course, method = course_of(pair[0]), METHODS[pair[1]]
    seeds = len(row.runs)
    said = f"{course.title}; {method.title}: regret after {row.path_steps / 1e6:.2g}M path-steps"
    said += f", mean of {seeds} seeds, worst {row.worst:.2g}" if seeds > 1 else ", one seed"
    return Claim(
        f"{pair[0]}_{pair[1]}",
        said,
        course.bound,
        row.regret.mean,
        row.regret.stderr,
        0.0,
        "≤",
    )


def check(size: Size, jobs: int = 1) -> Report:
    """Regrets relative to that of the start; settings on seed 0, the full table on seeds 1 to 5."""
    rows = table(size, jobs)
    learned = {pair: row for pair, row in rows.items() if not row.refusal}
    refused = {pair: row.refusal for pair, row in rows.items() if row.refusal}
    known = {(c, m) for c, methods in NEITHER.items() for m in methods} & set(rows)
    reasons = "; ".join(
        f"{METHODS[m].title} on {course_of(c).title}: {why}" for (c, m), why in refused.items()
    )
    shown = [(pair, row) for pair, row in learned.items() if pair[0] == pick(size, "lq2", "lq10")]
    return Report(
        title="Learning",
        statement="Every algorithm brings every problem it applies to from its starting policy to "
        "a stated share of the starting regret J* − J within a stated number of simulated steps of "
        "paths. Regrets of linear-quadratic problems and of Merton's are exact; those of mixtures "
        "are κ KL(P ‖ P*) from 4000 paths with common noise. Settings (validation/lessons) "
        "on seed 0, the full table on seeds 5–9, seen once.",
        assumptions="One training loop, one grid, budget and bound a problem; off-policy "
        "q-learning of linear problems takes four times finer steps, because its fixed point is "
        "biased by O(Δt). "
        "Linear problems: gains that are constant in time, which the terminal cost makes optimal. "
        f"Does not apply: {reasons or 'nothing'}.",
        source="docs/theory, policy gradient; surrogate; q-learning; prox.",
        code=("ctcontrol.improve", "ctcontrol.regret"),
        claims=(
            *(claim(pair, row) for pair, row in learned.items()),
            equal(
                "refusals",
                "methods refused with a reason, as foreseen",
                len(set(refused) ^ known),
                0,
            ),
        ),
        plot=Plot(
            f"Learning curves, {course_of(shown[0][0][0]).title}, first seed",
            "simulated steps of paths",
            "regret / regret at the start",
            tuple(
                Series(
                    METHODS[pair[1]].title,
                    tuple(map(float, row.runs[0].path_steps)),
                    tuple(max(r.mean, 1e-6) for r in row.runs[0].regrets),
                )
                for pair, row in shown
            ),
            log_y=True,
        ),
    )
