"""Each value network before and after it is fitted, and what an iteration with it costs."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.critics._truth import Level, Miss, miss
from ctcontrol_diffusion.critics._variants import variant


@dataclass(frozen=True)
class Outcome:
    """One value network.

    Attributes:
        name: of the variant.
        parameters: numbers that learn.
        before: errors of the fresh network, one a level.
        after: errors of the fitted one.
        seconds: median duration of a training iteration, or None if it was not timed; of the
            processor, on a CPU.
        ratio: median over rounds of its duration by that of DDPO in the same round.
    """

    name: str
    parameters: int
    before: list[Miss]
    after: list[Miss]
    seconds: float | None = None
    ratio: float | None = None


def fitted(
    config: Config, names: Sequence[str], levels: list[Level], tell: Callable[[str], None]
) -> list[Outcome]:
    """Every network on the same rollouts of the pretrained model, `config.iterations` of them."""
    outcomes: list[Outcome] = []
    for name in names:
        experiment = build(_waiting(variant(config, name)))
        value = experiment.value
        assert value is not None
        learning = sum(p.numel() for p in value.parameters() if p.requires_grad)
        before = [miss(value, level) for level in levels]
        for _ in islice(experiment.iterations(), config.iterations):
            pass
        after = [miss(value, level) for level in levels]
        outcomes.append(Outcome(name, learning, before, after))
        tell(name)
    return outcomes


def timed(config: Config, outcomes: list[Outcome], rounds: int) -> list[Outcome]:
    """The same with durations: one iteration of each in turn, so that a drift slows all alike.

    The first round, in which memory is found, does not count. On a CPU it is the time of the
    processor that counts, which other programs do not lengthen much.
    """
    clock = time.process_time if config.device == "cpu" else time.perf_counter
    ddpo = build(replace(config, algorithm="ddpo"))
    made = [build(_going(variant(config, outcome.name))) for outcome in outcomes]
    running = [one.iterations() for one in (ddpo, *made)]
    laps: list[list[float]] = [[] for _ in running]
    for _ in range(rounds + 1):
        for iterations, mine in zip(running, laps, strict=True):
            began = clock()
            next(iterations)
            mine.append(clock() - began)
    base = laps[0][1:]
    return [
        replace(
            outcome,
            seconds=statistics.median(lap[1:]),
            ratio=statistics.median(s / b for s, b in zip(lap[1:], base, strict=True)),
        )
        for outcome, lap in zip(outcomes, laps[1:], strict=True)
    ]


def pretrained(config: Config) -> Experiment:
    """The model as it is before training, with whatever value network."""
    return build(config)


def _waiting(config: Config) -> Config:
    """Only the value learns."""
    return replace(config, critic=replace(config.critic, policy_waits=config.iterations))


def _going(config: Config) -> Config:
    return replace(config, critic=replace(config.critic, policy_waits=0))
