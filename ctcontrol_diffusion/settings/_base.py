"""What a run needs to know about a problem beyond the control problem itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn

from ctcontrol import Context, ControlProblem, MeanFunction, Solver, TimeGrid, Value
from ctcontrol_diffusion.inspection import Inspector
from ctcontrol_diffusion.inspection import Progress as Progress
from ctcontrol_diffusion.inspection import Row as Row
from ctcontrol_diffusion.publish import Published

Number = float | None


@dataclass(frozen=True)
class Facts:
    """What is known without training: yardsticks, exact optima, with their error bars.

    Attributes:
        numbers: name -> (value, standard error or None where exact).
        texts: one sentence a number, saying what it is.
    """

    numbers: Mapping[str, tuple[float, Number]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pictures:
    """How states become images.

    Attributes:
        decode: (states at the horizon, context) -> (n, channels, height, width) in [0, 1].
        prompts: context -> one text a row.
        contexts: texts -> context; raises `CtcontrolError` for a text the model cannot take.
        seen: prompts that training draws from; none if the model is not prompted.
        unseen: prompts that training never sees, for evaluation.
    """

    decode: Callable[[Tensor, Context], Tensor]
    prompts: Callable[[Context], list[str]]
    contexts: Callable[[list[str]], Context]
    seen: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Setting:
    """A control problem with everything a run of it needs.

    Attributes:
        problem: what is maximised.
        mean: the trainable mean action (a score network, a gain).
        value: the critic's value function.
        solver: scheme of the training rollouts.
        evaluate: (mean action, progress callback) -> rows; its own fixed seed, so that before
            and after see the same noise. The callback is called after each row with (done, all).
        facts: measured once, before training: (progress callback) -> Facts.
        pictures: None where states are no images.
        grid: number of steps -> the times of a rollout; equal steps if None.
        inspector: what `evaluate` samples and measures with; None where states are no images.
        frozen: networks besides, that take memory and do not learn.
        publish: writes the network into a folder, which exists, for other programs, and loads it
            again; may raise `Mismatch`. None where there is no such program.
    """

    problem: ControlProblem
    mean: nn.Module
    value: Value
    solver: Solver
    evaluate: Callable[[MeanFunction, Callable[[int, int], None]], list[Row]]
    facts: Callable[[Callable[[int, int], None]], Facts]
    pictures: Pictures | None = None
    grid: Callable[[int], TimeGrid] | None = None
    inspector: Inspector | None = None
    frozen: Sequence[nn.Module] = ()
    publish: Callable[[Path], Published] | None = None
