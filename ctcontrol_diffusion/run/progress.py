"""What a run says while it works: a bar on a terminal, single lines elsewhere."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.wording import clock, record_line

Tick = Callable[[int, int], None]
"""(done, all)."""
Tell = Callable[[Record], None]
"""Called with the record of each iteration."""

SECONDS_BETWEEN_LINES = 5.0
ITERATIONS_BETWEEN_LINES = 5


class Voice(ABC):
    """Tells of stages and iterations.

    Args:
        console: where to.
        unit: of what is simulated, `images` or `paths`.
        has_kl: whether the divergence is a KL to the pretrained model.
    """

    def __init__(self, console: Console, unit: str, has_kl: bool) -> None:
        self.console = console
        self.unit = unit
        self.has_kl = has_kl

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """One line that wants attention."""
        self.console.print(
            f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    @abstractmethod
    def stage(self, name: str) -> AbstractContextManager[Tick]:
        """A stage whose length is told by its first tick."""

    @abstractmethod
    def training(self, start: int, total: int) -> AbstractContextManager[Tell]:
        """The iterations from `start` to `total`."""


def voice_for(console: Console, *, unit: str, has_kl: bool) -> Voice:
    """The voice that suits the console."""
    kind = Bars if console.is_terminal else Lines
    return kind(console, unit, has_kl)


class Bars(Voice):
    """Progress bars, with the numbers of the last iteration below."""

    @contextmanager
    def stage(self, name: str) -> Generator[Tick]:
        bar = _bar(self.console, name)
        with bar:
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def training(self, start: int, total: int) -> Generator[Tell]:
        bar = _bar(self.console, "train")
        task = bar.add_task("train", total=total, completed=start)
        numbers = Text("the first iteration …", style="dim")

        def tell(record: Record) -> None:
            bar.update(task, completed=record["iteration"] + 1)
            numbers.plain = record_line(record, self.unit, self.has_kl)
            numbers.stylize("none")

        with Live(Group(bar, numbers), console=self.console, refresh_per_second=4):
            yield tell


class Lines(Voice):
    """One line now and then, for files and pipes."""

    @contextmanager
    def stage(self, name: str) -> Generator[Tick]:
        began = said = time.monotonic()

        def tick(done: int, total: int) -> None:
            nonlocal said
            if done < total and time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                self.say(f"{name}: {done}/{total}")

        yield tick
        self.say(f"{name}: done in {clock(time.monotonic() - began)}")

    @contextmanager
    def training(self, start: int, total: int) -> Generator[Tell]:
        began = said = time.monotonic()
        last = -ITERATIONS_BETWEEN_LINES

        def tell(record: Record) -> None:
            nonlocal said, last
            index, now = record["iteration"], time.monotonic()
            many = index - last >= ITERATIONS_BETWEEN_LINES
            if not (many or now - said > SECONDS_BETWEEN_LINES or index + 1 == total):
                return
            said, last = now, index
            left = (now - began) / (index + 1 - start) * (total - index - 1)
            numbers = record_line(record, self.unit, self.has_kl)
            width = len(str(total))
            self.say(f"iteration {index + 1:{width}d}/{total}   {numbers}   ETA {clock(left)}")

        yield tell


def _bar(console: Console, name: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        expand=True,
        speed_estimate_period=600,
    )
