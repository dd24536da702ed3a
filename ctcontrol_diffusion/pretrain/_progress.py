"""How far a fit is: a bar on a terminal, a line at every tenth in a file."""

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ._fit import FitStep

LOSS_MEMORY = 0.99  # decay of the running mean of the loss


def new_progress(console: Console) -> Progress:
    """A bar with its loss; silent where there is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def followed(
    progress: Progress, title: str, steps: Iterable[FitStep], total: int, done: int = 0
) -> Iterator[tuple[FitStep, float]]:
    """Every step with the running mean of the loss, shown as it goes on from step `done`."""
    began = time.perf_counter()
    task = progress.add_task(title, total=total, completed=done, loss=0.0)
    mean = 0.0
    for step in steps:
        # Early on the plain mean, later an exponential one.
        weight = max(1 / (step.iteration - done), 1 - LOSS_MEMORY)
        mean += weight * (step.loss - mean)
        progress.update(task, advance=1, loss=mean)
        if progress.disable and (10 * step.iteration) % total < 10:
            progress.console.print(
                f"{title}: {step.iteration}/{total}, loss {mean:.4f}, "
                f"{time.perf_counter() - began:.0f} s",
                highlight=False,
                soft_wrap=True,
            )
        yield step, mean
