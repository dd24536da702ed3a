"""Several presets from several seeds, with what is finished kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctcontrol_diffusion.compare._outcome import BEFORE, Outcome, read_outcomes, write_outcomes
from ctcontrol_diffusion.compare._table import line, table
from ctcontrol_diffusion.compare._train import before_training, train_once
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.report.tiles import Tiles, gallery
from ctcontrol_diffusion.run.album import read_tiles, write_tiles
from ctcontrol_diffusion.run.config_file import config_to_json
from ctcontrol_diffusion.run.files import write_atomically


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is to be compared.

    Attributes:
        configs: preset -> its config with the first seed.
        seeds: how many, from the first on.
        judge: a held-out reward, or None.
        before: measure the first preset's model before training, too.
        out: JSON file of the finished runs, or None.
        picture: PNG of the first seed's samples, or None; the bare images are kept beside it.
        command: what to say that made it all.
        say: tells a line.
    """

    configs: Mapping[str, Config]
    seeds: int
    judge: str | None
    before: bool
    out: Path | None
    picture: Path | None
    command: str
    say: Callable[[str], None]
    finished: list[Outcome] = field(default_factory=list[Outcome])

    def complete(self) -> None:
        """Make the runs that are missing, then show the table of all.

        Raises:
            CtcontrolError: `out` holds something else.
        """
        if self.out is not None:
            self.finished.extend(read_outcomes(self.out, self._about()))
        done = {(outcome.preset, outcome.seed) for outcome in self.finished}
        if self.before and BEFORE not in {preset for preset, _ in done}:
            self._add(*before_training(self._first(), self.judge, self._columns()))
        for k in range(self.seeds):
            for name, config in self.configs.items():
                seed = config.seed + k
                if (name, seed) not in done:
                    columns = 0 if k else self._columns()
                    self._add(*train_once(name, replace(config, seed=seed), self.judge, columns))
        wanted = {config.seed + k for config in self.configs.values() for k in range(self.seeds)}
        names = [*([BEFORE] if self.before else []), *self.configs]
        shown = [one for one in self.finished if one.preset == BEFORE or one.seed in wanted]
        self.say(table(sorted(shown, key=lambda one: names.index(one.preset))))
        self._draw(names)

    def _add(self, outcome: Outcome, tiles: Tiles | None) -> None:
        self.finished.append(outcome)
        self.say(line(outcome))
        if tiles is not None and self.picture is not None:
            write_tiles(self._kept(self.picture), self._place(outcome.preset), tiles)
        if self.out is not None:
            write_outcomes(self.out, self.finished, self._about(), self.command)

    def _draw(self, names: list[str]) -> None:
        """The picture, from all bare images that are there."""
        if self.picture is None:
            return
        found = {name: read_tiles(self._kept(self.picture), self._place(name)) for name in names}
        images = {
            name if len(tiles.prompts) == 1 else f"{name}, {prompt}": tiles.pixels[row]
            for name, tiles in found.items()
            if tiles is not None
            for row, prompt in enumerate(tiles.prompts)
        }
        if images:
            write_atomically(self.picture, gallery(images, self._columns()))

    def _first(self) -> Config:
        return next(iter(self.configs.values()))

    def _columns(self) -> int:
        return 0 if self.picture is None else self._first().evaluation.grid

    def _place(self, preset: str) -> int:
        return 0 if preset == BEFORE else 1 + list(self.configs).index(preset)

    def _kept(self, picture: Path) -> Path:
        return picture.with_suffix(".tiles")

    def _about(self) -> dict[str, object]:
        """What runs must share to stand in one table; seeds may be added."""
        configs = {name: config_to_json(replace(c, seed=0)) for name, c in self.configs.items()}
        return {"configs": configs, "judge": self.judge}
