"""Starting and continuing a run, from the folder to the exit status."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from ctcontrol import CtcontrolError, NumericalError, PeerFailure
from ctcontrol_diffusion._console import BAD_INPUT, FAILURE, INTERRUPTED, console, fail
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.config import Config
from ctcontrol_diffusion.memory import plan_memory
from ctcontrol_diffusion.processes import device_of, join, leave
from ctcontrol_diffusion.run.checkpoint import CheckpointError
from ctcontrol_diffusion.run.directory import RunDirectory, create, new_folder, open_run, versions
from ctcontrol_diffusion.run.failure import failure_message, resume_command
from ctcontrol_diffusion.run.identity import check_networks, fingerprint_of
from ctcontrol_diffusion.run.interrupts import Interrupts, Stopped
from ctcontrol_diffusion.run.loop import Run
from ctcontrol_diffusion.run.page import write_report
from ctcontrol_diffusion.run.progress import voice_for
from ctcontrol_diffusion.run.table import print_evaluation
from ctcontrol_diffusion.run.team import Team
from ctcontrol_diffusion.run.trackers import Trackers, check_trackers

ECHO = 3.0
"""Seconds after Ctrl-C in which a launcher may hand it on once more."""


def start(preset: str, config: Config, folder: Path | None) -> int:
    """A new run; returns the exit status.

    Raises:
        CtcontrolError: the folder or the config cannot be used; nothing was written.
    """
    return _with_team(config, lambda team: _start(team, preset, config, folder))


def resume(folder: Path) -> int:
    """Continue a run, or rewrite the report of a finished one; returns the exit status.

    With as many processes as one likes: they do not change what is computed.

    Raises:
        CtcontrolError: there is no run, or no checkpoint of it can be used.
    """
    directory = open_run(folder)
    check_config(directory.config)
    return _with_team(directory.config, lambda team: _resume(team, directory))


def _with_team(config: Config, work: Callable[[Team], int]) -> int:
    """Meet the other processes and work with them; whoever fails first speaks for all."""
    torch.set_num_threads(config.threads)
    team = Team(join(config.device))
    try:
        status = work(team)
    except CtcontrolError as error:
        if team.size == 1:
            raise
        text = str(error)
        return team.spoken(BAD_INPUT, lambda: fail(text, BAD_INPUT))
    except PeerFailure as failure:
        text = f"{failure}; nothing was begun"
        return team.silent(FAILURE, lambda: fail(text, FAILURE))
    if status == 0:
        team.part()
        leave()
    return status


def _start(team: Team, preset: str, config: Config, folder: Path | None) -> int:
    chosen = Path(team.told(lambda: str(new_folder(folder, preset))))
    team.each(lambda: check_trackers(config.trackers))
    experiment = team.each(lambda: _built(config, team))
    plan, weights = team.each(lambda: _plan(experiment)), fingerprint_of(experiment)
    team.check_same("networks", weights)
    directory = RunDirectory(chosen, preset, config, weights, versions())
    team.told(lambda: str(create(chosen, preset, config, weights).path))
    _say(f"run: {chosen}")
    _say(plan)
    return _finish(team, directory, lambda: experiment)


def _resume(team: Team, directory: RunDirectory) -> int:
    if team.told(lambda: "finished" if "after" in directory.evaluation() else ""):
        team.led(lambda: write_report(directory))
        _say(f"{directory.path} is finished already; its report was written anew")
        _conclude(directory)
        return 0
    return _finish(team, directory, lambda: team.each(lambda: _same(directory, team)))


def _finish(team: Team, directory: RunDirectory, make: Callable[[], Experiment]) -> int:
    """Do what is left of a run and translate how it ends."""
    interrupts = Interrupts(quiet=not team.leads, echo=ECHO if team.size > 1 else 0.0)
    with ExitStack() as stack:
        team.each(lambda: stack.enter_context(directory.locked()) if team.leads else None)
        stack.enter_context(interrupts.installed())
        experiment = make()
        setting = experiment.setting
        voice = voice_for(
            console(),
            unit="paths" if setting.pictures is None else "images",
            has_kl=setting.problem.regularizer is not None,
        )
        stopped = False
        names = directory.config.trackers if team.leads else ()
        trackers = team.each(lambda: Trackers(check_trackers(names), directory, voice.warn))
        try:
            try:
                Run(directory, experiment, voice, interrupts, team, trackers).complete()
            except Stopped:
                stopped = True
            finally:
                trackers.close()
            team.led(lambda: write_report(directory))
        except CheckpointError:
            raise
        except (NumericalError, CtcontrolError, OSError, MemoryError, torch.OutOfMemoryError) as e:
            error = e
            return team.spoken(FAILURE, lambda: fail(failure_message(error, directory), FAILURE))
        except PeerFailure as failure:
            return _left_alone(team, directory, failure, interrupts)
        except KeyboardInterrupt:
            return _stopped(team, directory, "stopped at once")
    if stopped:
        return _stopped(team, directory, "stopped")
    _conclude(directory)
    return 0


def _left_alone(
    team: Team, directory: RunDirectory, failure: PeerFailure, interrupts: Interrupts
) -> int:
    """Another process failed or was killed, or all were asked to stop."""
    if interrupts.waiting:
        return _stopped(team, directory, "stopped at once")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher ends those that are left
    text = (
        f"{failure}; everything up to the last checkpoint is kept in {directory.path}; continue "
        f"with {resume_command(directory.path)}"
    )
    return team.silent(FAILURE, lambda: fail(text, FAILURE))


def _built(config: Config, team: Team) -> Experiment:
    device = device_of(config.device, team.collective)
    experiment = build(replace(config, device=device), team.collective)
    if experiment.setting.inspector is not None:
        experiment.setting.inspector.check(experiment.setting.inspector.plan)
    return experiment


def _same(directory: RunDirectory, team: Team) -> Experiment:
    """The experiment of a run, made sure to start from the same networks."""
    changed = {name: now for name, now in versions().items() if directory.versions.get(name) != now}
    for name, now in changed.items():
        before = directory.versions.get(name, "no")
        _say(
            f"warning: this run began with {name} {before} and goes on with {now}; the last digits "
            "may differ",
        )
    experiment = _built(directory.config, team)
    check_networks(directory, experiment)
    _say(_plan(experiment))
    return experiment


def _plan(experiment: Experiment) -> str:
    """What memory the run takes, refused if it does not fit; nothing where that is little."""
    return "" if experiment.setting.pictures is None else str(plan_memory(experiment).check())


def _stopped(team: Team, directory: RunDirectory, how: str) -> int:
    if not team.leads:
        return INTERRUPTED
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
