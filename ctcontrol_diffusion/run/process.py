"""Starting and continuing a run, from the folder to the exit status."""

from collections.abc import Callable
from pathlib import Path

import torch

from ctcontrol import CtcontrolError, NumericalError
from ctcontrol_diffusion._console import FAILURE, INTERRUPTED, console, fail
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.memory import plan_memory
from ctcontrol_diffusion.run.checkpoint import CheckpointError
from ctcontrol_diffusion.run.directory import RunDirectory, create, new_folder, open_run, versions
from ctcontrol_diffusion.run.failure import failure_message, resume_command
from ctcontrol_diffusion.run.identity import check_networks, fingerprint_of
from ctcontrol_diffusion.run.interrupts import Interrupts, Stopped
from ctcontrol_diffusion.run.loop import Run
from ctcontrol_diffusion.run.page import write_report
from ctcontrol_diffusion.run.progress import voice_for
from ctcontrol_diffusion.run.table import print_evaluation
from ctcontrol_diffusion.run.trackers import Trackers, check_trackers


def start(preset: str, config: Config, folder: Path | None) -> int:
    """A new run; returns the exit status.

    Raises:
        CtcontrolError: the folder or the config cannot be used; nothing was written.
    """
    folder = new_folder(folder, preset)
    check_trackers(config.trackers)
    experiment = _built(config)
    plan = _plan(experiment)
    directory = create(folder, preset, config, fingerprint_of(experiment))
    _say(f"run: {folder}")
    _say(plan)
    return _finish(directory, lambda: experiment)


def resume(folder: Path) -> int:
    """Continue a run, or rewrite the report of a finished one; returns the exit status.

    Raises:
        CtcontrolError: there is no run, or no checkpoint of it can be used.
    """
    directory = open_run(folder)
    check_config(directory.config)
    if "after" in directory.evaluation():
        write_report(directory)
        _say(f"{folder} is finished already; its report was written anew")
        _conclude(directory)
        return 0
    return _finish(directory, lambda: _same(directory))


def _finish(directory: RunDirectory, make: Callable[[], Experiment]) -> int:
    """Do what is left of a run and translate how it ends."""
    interrupts = Interrupts()
    with directory.locked(), interrupts.installed():
        experiment = make()
        setting = experiment.setting
        voice = voice_for(
            console(),
            unit="paths" if setting.pictures is None else "images",
            has_kl=setting.problem.regularizer is not None,
        )
        stopped = False
        kinds = check_trackers(directory.config.trackers)
        trackers = Trackers(kinds, directory, voice.warn)
        try:
            try:
                Run(directory, experiment, voice, interrupts, trackers).complete()
            except Stopped:
                stopped = True
            finally:
                trackers.close()
            write_report(directory)
        except CheckpointError:
            raise
        except (NumericalError, CtcontrolError, OSError, MemoryError, torch.OutOfMemoryError) as e:
            return fail(failure_message(e, directory), FAILURE)
        except KeyboardInterrupt:
            return _stopped(directory, "stopped at once")
    if stopped:
        return _stopped(directory, "stopped")
    _conclude(directory)
    return 0


def _built(config: Config) -> Experiment:
    torch.set_num_threads(config.threads)
    experiment = build(config)
    if experiment.setting.inspector is not None:
        experiment.setting.inspector.check(experiment.setting.inspector.plan)
    return experiment


def _same(directory: RunDirectory) -> Experiment:
    """The experiment of a run, made sure to start from the same networks."""
    changed = {name: now for name, now in versions().items() if directory.versions.get(name) != now}
    for name, now in changed.items():
        before = directory.versions.get(name, "no")
        _say(
            f"warning: this run began with {name} {before} and goes on with {now}; the last digits "
            "may differ",
        )
    experiment = _built(directory.config)
    check_networks(directory, experiment)
    _say(_plan(experiment))
    return experiment


def _plan(experiment: Experiment) -> str:
    """What memory the run takes, refused if it does not fit; nothing where that is little."""
    return "" if experiment.setting.pictures is None else str(plan_memory(experiment).check())


def _stopped(directory: RunDirectory, how: str) -> int:
    numbers = directory.keeper.numbers()
    where = f"after iteration {numbers[-1]}" if numbers else "from the start"
    print(f"{how}; continue {where} with: {resume_command(directory.path)}")
    return INTERRUPTED


def _conclude(directory: RunDirectory) -> None:
    print_evaluation(console(), directory.evaluation())
    _say(f"report: {directory.report}")


def _say(text: str) -> None:
    if text:
        console().print(text, markup=False, highlight=False, soft_wrap=True)
