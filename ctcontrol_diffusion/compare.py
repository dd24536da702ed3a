"""`python -m ctcontrol_diffusion.compare [PRESET …]`: train presets from several seeds, one table.

Every preset samples the same number of images. Seeds and presets alternate, so that a machine
that drifts slows all of them alike. Exit status: 0 done, 2 bad input, 3 failure, 130 Ctrl-C.
"""

import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from ctcontrol_diffusion._console import command, console
from ctcontrol_diffusion.config import Config

PROGRAM = "python -m ctcontrol_diffusion.compare"


@dataclass(frozen=True)
class Arguments:
    """What the command takes besides the presets."""

    seeds: int = 5
    """Seeds 0, 1, …; each trains every preset once."""
    iterations: int | None = None
    """Iterations of every run; those of each preset if not given."""
    images: int = 500
    """Samples of the final evaluation, at the number of steps of the training."""
    out: Path | None = None
    """JSON file for every run's numbers and the command that made them."""


@dataclass(frozen=True)
class Outcome:
    """One trained model.

    Attributes:
        preset: its name.
        seed: its seed.
        images: sampled in training.
        seconds: median duration of an iteration.
        numbers: of the evaluation by the stochastic sampler, name -> mean over samples.
    """

    preset: str
    seed: int
    images: int
    seconds: float
    numbers: dict[str, float]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command(_command, words, stopped="stopped; finished runs were written")


def _command(words: list[str]) -> int:
    from ctcontrol import check_count
    from ctcontrol_diffusion._cli import read
    from ctcontrol_diffusion.presets import preset

    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    names = words[:count] or ["digits", "digits-ddpo"]
    arguments = read(
        Arguments(),
        words[count:],
        prog=f"{PROGRAM} [PRESET …]",
        description="Train presets from several seeds and compare them. PRESETs come first; "
        "digits and digits-ddpo if none are given.",
    )
    check_count("--seeds", arguments.seeds)
    check_count("--images", arguments.images)
    configs = {name: _shortened(preset(name), arguments) for name in names}
    outcomes: list[Outcome] = []
    for seed in range(arguments.seeds):
        for name, config in configs.items():
            outcomes.append(train_once(name, replace(config, seed=seed)))
            console().print(_line(outcomes[-1]))
            if arguments.out is not None:
                _write(arguments.out, outcomes, words)
    console().print(table(outcomes))
    return 0


def _shortened(config: Config, arguments: Arguments) -> Config:
    from ctcontrol_diffusion.check import check_config

    evaluation = replace(config.evaluation, steps=(config.rollout.steps,), images=arguments.images)
    iterations = arguments.iterations or config.iterations
    return check_config(replace(config, evaluation=evaluation, iterations=iterations))


def train_once(name: str, config: Config) -> Outcome:
    """Train `config` without keeping anything but its numbers."""
    import torch

    from ctcontrol_diffusion.build import build

    torch.set_num_threads(config.threads)
    experiment = build(config)
    seconds, began = [], time.perf_counter()
    for _ in islice(experiment.iterations(), config.iterations):
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    row = experiment.setting.evaluate(experiment.setting.mean, lambda done, total: None)[0]
    return Outcome(
        preset=name,
        seed=config.seed,
        images=config.iterations * config.rollout.batch,
        seconds=statistics.median(seconds),
        numbers={key: value for key, (value, _) in row.numbers.items()},
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table: mean ± standard error over the seeds of every preset."""
    keys = [*outcomes[0].numbers, "seconds/iteration"]
    lines = [
        "| preset | seeds | images | " + " | ".join(keys) + " |",
        "|---" * (len(keys) + 3) + "|",
    ]
    for name in dict.fromkeys(outcome.preset for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.preset == name]
        columns = [[outcome.numbers[key] for outcome in mine] for key in keys[:-1]]
        cells = [_mean_and_error(column) for column in [*columns, [o.seconds for o in mine]]]
        lines.append(f"| {name} | {len(mine)} | {mine[0].images} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _mean_and_error(values: list[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {statistics.stdev(values) / len(values) ** 0.5:.2g}"


def _line(outcome: Outcome) -> str:
    numbers = "  ".join(f"{key} {value:.3g}" for key, value in outcome.numbers.items())
    return f"{outcome.preset} seed {outcome.seed}: {numbers}  {outcome.seconds:.2f} s/iteration"


def _write(path: Path, outcomes: Sequence[Outcome], words: list[str]) -> None:
    from ctcontrol_diffusion.run.files import to_json, write_atomically

    runs = [asdict(outcome) for outcome in outcomes]
    content = {"command": " ".join([PROGRAM, *words]), "runs": runs}
    write_atomically(path, to_json(content, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
