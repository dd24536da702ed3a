"""Looks at a few images of fixed noise on the way: held-out rewards, and whether images drift."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.inspection import Cell, Inspector, Plan, Samples, drifts
from ctcontrol_diffusion.run.files import write_atomically
from ctcontrol_diffusion.run.looks import DRIFT, LOOK, tag
from ctcontrol_diffusion.run.metrics import Record

FILE = "watch.safetensors"


@dataclass(frozen=True, eq=False)
class Watch:
    """What is seen depends on the policy's weights alone, so that a resumed run sees the same.

    Attributes:
        folder: of the run; keeps what the pretrained model gave, image by image.
        experiment: whose policy is looked at.
        warn: told of every statistic when it begins to drift.
    """

    folder: Path
    experiment: Experiment
    warn: Callable[[str], None]
    _alarmed: set[str] = field(default_factory=set[str])

    def begin(self) -> None:
        """Look at the pretrained model, whose weights the policy must have now."""
        inspector = self._inspector()
        if inspector is not None and self._base() is None:
            values = self._samples(inspector).values
            content = save({key: value.contiguous() for key, value in values.items()})
            write_atomically(self.folder / FILE, content)

    def look(self, iterations: int) -> Record:
        """What to add to the record of iteration `iterations` − 1; nothing if it is not its turn.

        Numbers are of the policy *after* that iteration: `watch/NAME` with mean and stderr, and
        for each image statistic `drift/NAME` with its shift from the pretrained model on the same
        noise, the shift's stderr, its size in spreads, and whether it is alarming, 0 or 1.

        Raises:
            RewardError: a held-out reward that fails.
        """
        inspector = self._inspector()
        every = self.experiment.config.evaluation.watch_every
        if inspector is None or iterations % every:
            return {}
        samples = self._samples(inspector)
        row = samples.row(self._cell(), self._plan(inspector))
        seen = {**row.numbers, **row.statistics}
        record: Record = {
            LOOK + tag(name): {"mean": value, "stderr": error}
            for name, (value, error) in seen.items()
            if name != "kl"  # the rollouts know it better
        }
        return record | self._drifted(samples, iterations)

    def _drifted(self, samples: Samples, iterations: int) -> Record:
        base = self._base()
        record: Record = {}
        for drift in [] if base is None else drifts(base, samples.values):
            record[DRIFT + tag(drift.name)] = {
                "shift": drift.shift.mean,
                "stderr": drift.shift.stderr,
                "size": drift.size,
                "alarming": float(drift.alarming),
            }
            if drift.alarming and drift.name not in self._alarmed:
                self.warn(f"after iteration {iterations}: {drift}; look at the samples")
            (self._alarmed.add if drift.alarming else self._alarmed.discard)(drift.name)
        return record

    def _samples(self, inspector: Inspector) -> Samples:
        mean = self.experiment.setting.mean
        return inspector.samples(mean, self._cell(), self._plan(inspector), measured=False)

    def _inspector(self) -> Inspector | None:
        """None where there will be no look."""
        config = self.experiment.config
        watched = 0 < config.evaluation.watch_every <= config.iterations
        return self.experiment.setting.inspector if watched else None

    def _cell(self) -> Cell:
        return Cell("SDE", self.experiment.config.rollout.steps)

    def _plan(self, inspector: Inspector) -> Plan:
        images = self.experiment.config.evaluation.watch_images
        return replace(inspector.plan, images=images, groups={}, real=None)

    def _base(self) -> dict[str, Tensor] | None:
        try:
            return load((self.folder / FILE).read_bytes())
        except (OSError, SafetensorError):
            return None
