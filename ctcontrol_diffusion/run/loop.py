"""The stages of a run: yardsticks, before, iterations, after; each kept as soon as it is done."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial

from ctcontrol import Iteration
from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.run.album import Album
from ctcontrol_diffusion.run.checkpoint import Counters, load_checkpoint, load_policy
from ctcontrol_diffusion.run.directory import RunDirectory
from ctcontrol_diffusion.run.interrupts import Interrupts, Stopped
from ctcontrol_diffusion.run.journal import Journal
from ctcontrol_diffusion.run.looks import best_look, gave_up
from ctcontrol_diffusion.run.metrics import Record, record_of
from ctcontrol_diffusion.run.progress import Voice
from ctcontrol_diffusion.run.table import facts_to_json, rows_to_json
from ctcontrol_diffusion.run.team import Team
from ctcontrol_diffusion.run.trackers import Trackers
from ctcontrol_diffusion.run.watch import Watch

PICTURES = 4
"""How often a run is drawn on its way; each costs about a third of an iteration."""


@dataclass(frozen=True, eq=False)
class Run:
    """One process working on a run, alone or with others, of which the first one writes.

    Attributes:
        directory: where it is kept.
        experiment: freshly built, before any checkpoint is loaded.
        voice: tells how far it is.
        interrupts: when it may stop.
        team: the processes.
        trackers: told of every iteration, besides the run's own files.
    """

    directory: RunDirectory
    experiment: Experiment
    voice: Voice
    interrupts: Interrupts
    team: Team
    trackers: Trackers | None = None

    def complete(self) -> None:
        """Do whatever is not done yet.

        Raises:
            Stopped: asked to; a checkpoint of the last whole iteration is saved.
            NumericalError, CtcontrolError, OSError: the run cannot go on.
            PeerFailure: another process cannot.
        """
        # With the pretrained networks, so before a checkpoint is loaded.
        self.team.led(self._measure_before)
        counters = self._restored()
        if counters.iterations:
            self.voice.say(f"continuing after iteration {counters.iterations}")
        self._train(counters)
        self.team.led(self._measure_after)

    def _restored(self) -> Counters:
        """Where to go on; the first process says from which checkpoint."""
        keeper, experiment, found = self.directory.keeper, self.experiment, Counters()

        def choose() -> str:
            nonlocal found
            found = keeper.restore(experiment, self.voice.warn)
            return str(found.iterations)

        number = int(self.team.told(choose))
        if self.team.leads or number == 0:
            return self.team.each(lambda: found)
        return self.team.each(lambda: load_checkpoint(keeper.path(number), experiment))

    def _measure_before(self) -> None:
        setting, directory = self.experiment.setting, self.directory
        known = directory.evaluation()
        if "facts" not in known:
            with self.voice.stage("yardsticks") as tick:
                directory.keep_evaluation(facts=facts_to_json(setting.facts(tick)))
        plan = None if setting.inspector is None else setting.inspector.plan
        if plan is not None and plan.real is not None:
            directory.keep_evaluation(distance=plan.real.about(plan.images))
        if "before" not in known:
            with self.voice.stage("evaluation before") as tick:
                directory.keep_evaluation(before=rows_to_json(setting.evaluate(setting.mean, tick)))
        album = self._album()
        if album is not None and not album.has(0):
            album.add(0)
        self._watch().begin()

    def _measure_after(self) -> None:
        setting = self.experiment.setting
        if "after" not in self.directory.evaluation():
            self._take_the_best()
            with self.voice.stage("evaluation after") as tick:
                rows = setting.evaluate(setting.mean, tick)
                self.directory.keep_evaluation(after=rows_to_json(rows))

    def _train(self, counters: Counters) -> None:
        watch = self._watch()
        with self._journal(counters.iterations) as journal:
            if self._over(counters, journal):
                return
            iterations = self.experiment.iterations(counters.iterations)
            total = self.directory.config.iterations
            with self.voice.training(counters.iterations, total) as tell:
                while not self._over(counters, journal):
                    with self.interrupts.deferred():
                        record, counters = _timed(iterations, counters)
                        if counters.iterations == total:
                            self.experiment.updater.use_average()
                        note = partial(self._note, journal, record, counters, watch)
                        self.team.led(note)
                        tell(record)
                        stop = self.team.any(self.interrupts.waiting)
                    if stop:
                        self.team.led(partial(self._keep, counters, journal, unless_due=True))
                        raise Stopped

    def _journal(self, iterations: int) -> AbstractContextManager[Journal | None]:
        """None but for the first process."""
        if self.team.leads:
            return closing(Journal(self.directory, iterations, self.trackers))
        return nullcontext()

    def _over(self, counters: Counters, journal: Journal | None) -> bool:
        gave_up = journal is not None and self._gave_up(journal)
        return counters.iterations >= self.directory.config.iterations or self.team.any(gave_up)

    def _note(
        self, journal: Journal | None, record: Record, counters: Counters, watch: Watch
    ) -> None:
        """Write an iteration down."""
        assert journal is not None
        journal.add(record | watch.look(counters.iterations))
        if self._due(counters.iterations, journal):
            self._keep(counters, journal)

    def _due(self, iterations: int, journal: Journal) -> bool:
        config = self.directory.config
        regular = iterations == config.iterations or iterations % config.checkpoint_every == 0
        return regular or self._gave_up(journal) or self._best(journal.records) == iterations

    def _watch(self) -> Watch:
        return Watch(self.directory.path, self.experiment, self.voice.warn)

    def _best(self, records: list[Record]) -> int | None:
        stop_on = self.directory.config.evaluation.stop_on
        return None if stop_on is None else best_look(records, stop_on)

    def _gave_up(self, journal: Journal) -> bool:
        return gave_up(journal.records, self.directory.config.evaluation)

    def _take_the_best(self) -> None:
        """Go on with the checkpoint that the held-out reward calls best, if one decides."""
        evaluation, keeper = self.directory.config.evaluation, self.directory.keeper
        records = self.directory.metrics.read()
        best = None if evaluation.stop_on is None else keeper.best(records)
        if best is None:
            return
        load_policy(keeper.path(best), self.experiment)
        how = "stopped early" if gave_up(records, evaluation) else "did all iterations"
        self.voice.say(
            f"{how} after iteration {len(records)}; {evaluation.stop_on} was highest after "
            f"iteration {best}, whose checkpoint is evaluated and is what `best` means"
        )
        self.directory.keep_evaluation(best={"iterations": best, "by": evaluation.stop_on})
        album = self._album()
        if album is not None:
            album.add(best)

    def _keep(
        self, counters: Counters, journal: Journal | None, *, unless_due: bool = False
    ) -> None:
        assert journal is not None
        if unless_due and self._due(counters.iterations, journal):
            return  # it is kept already
        # The checkpoint comes last: whatever is missing when it is there stays missing.
        album = self._album()
        if album is not None and self._worth_a_picture(counters.iterations):
            shown = album.add(counters.iterations)
            if self.trackers is not None:
                self.trackers.show(counters.iterations, shown)
        journal.flush()
        self.directory.keeper.save(self.experiment, counters, journal.records)

    def _worth_a_picture(self, iterations: int) -> bool:
        """At the end, and at about `PICTURES` checkpoints on the way."""
        total, every = self.directory.config.iterations, self.directory.config.checkpoint_every
        stride = every * max(1, round(total / (every * PICTURES)))
        return iterations == total or iterations % stride == 0

    def _album(self) -> Album | None:
        setting, config = self.experiment.setting, self.directory.config
        if setting.pictures is None:
            return None
        return Album(
            self.directory.samples,
            setting,
            setting.pictures,
            columns=config.evaluation.grid,
            steps=config.rollout.steps,
            device=self.experiment.generator.device,
            micro_batch=config.micro_batch,
        )


def _timed(iterations: Iterator[Iteration], counters: Counters) -> tuple[Record, Counters]:
    """The next iteration and the counters after it."""
    began = time.perf_counter()
    iteration = next(iterations)
    seconds = time.perf_counter() - began
    counters = Counters(
        iterations=counters.iterations + 1,
        images=counters.images + iteration.trajectory.batch,
        elapsed=counters.elapsed + seconds,
    )
    return record_of(iteration, counters.images, seconds, counters.elapsed), counters
