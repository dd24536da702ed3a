"""Killed, interrupted, full disk, damaged checkpoints: what follows equals the undisturbed run."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ctcontrol import Iteration
from ctcontrol_diffusion.build import Experiment
from ctcontrol_diffusion.run import files
from ctcontrol_diffusion.run.journal import Journal
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.tensorboard import TensorBoard
from tests.runs import DIGITS, LQ, assert_same, checkpoints, evaluation, records, train
from tests.started import program

# Each patch makes the process die as by `kill -9` at one moment.
MOMENTS = {
    "in the first evaluation": "from ctcontrol_diffusion.run import loop\nloop.rows_to_json = die",
    "in the middle of an iteration": """
from ctcontrol import Updater
step, seen = Updater.step, []
Updater.step = lambda *a: die() if len(seen) > 40 else (seen.append(0), step(*a))[1]
""",
    "after a line of metrics, before its checkpoint": """
from ctcontrol_diffusion.run.keeper import Keeper
save = Keeper.save
Keeper.save = lambda self, e, c, r: die() if c.iterations == 4 else save(self, e, c, r)
""",
    "while a checkpoint is written": """
from ctcontrol_diffusion.run import checkpoint
write = checkpoint._write
def half(path, data):
    if ".000004." in str(path) and path.name == "value.safetensors":
        write(path, data[: len(data) // 2])
        die()
    return write(path, data)
checkpoint._write = half
""",
    "between writing a checkpoint and giving it its name": """
from ctcontrol_diffusion.run import checkpoint
replace = os.replace
checkpoint.os.replace = lambda a, b: die() if str(b).endswith("000004") else replace(a, b)
""",
    "while old checkpoints are removed": """
from ctcontrol_diffusion.run import keeper
keeper.KEPT, keeper.rmtree = 1, die
""",
    "in the last evaluation": """
from ctcontrol_diffusion.run.loop import Run
Run._measure_after = die
""",
}


# Imports once, then dies many deaths, each in a child of its own.
DYING = """
import json, os, signal, sys
from tests.runs import train
from ctcontrol_diffusion.run import process

folder, moments, words = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
train(*words, "--run-dir", os.path.join(folder, "warm"))  # many modules are imported late
for name, patch in moments.items():
    child = os.fork()
    if child == 0:
        exec(patch, {"os": os, "die": lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)})
        train(*words, "--run-dir", os.path.join(folder, name))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, status)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run for each moment, dead."""
    folder = tmp_path_factory.mktemp("killed")
    done = program(DYING, folder, json.dumps(MOMENTS), *LQ)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_equals_undisturbed(moment: str, whole: Path, killed: Path) -> None:
    run = killed / moment
    assert "after" not in evaluation(run)
    assert train("--resume", run) == 0
    assert_same(run, whole)
    assert [name for name in checkpoints(run) if not name.isdecimal()] == []


def test_digits_resumed_from_each_checkpoint_equal_the_undisturbed(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert train(*DIGITS, "--update.averaged", "0.67", "--run-dir", whole) == 0
    for last in (1, 2):
        run = tmp_path / f"from-{last}"
        shutil.copytree(whole, run)
        parts = evaluation(run)
        del parts["after"]
        (run / "evaluation.json").write_text(json.dumps(parts))
        for name in checkpoints(run):
            if int(name) > last:
                shutil.rmtree(run / "checkpoints" / name)
        assert train("--resume", run) == 0
        assert records(run) == records(whole)
        assert evaluation(run) == evaluation(whole)
        for picture in (whole / "samples").rglob("*.png"):
            assert (run / picture.relative_to(whole)).read_bytes() == picture.read_bytes()


def at_iteration(monkeypatch: pytest.MonkeyPatch, index: int, act: Callable[[], Any]) -> None:
    """Do something when this iteration is written down."""
    add = Journal.add

    def acting(self: Journal, record: Record) -> None:
        add(self, record)
        if record["iteration"] == index:
            act()

    monkeypatch.setattr(Journal, "add", acting)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_iteration_and_saves(
    number: signal.Signals,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_iteration(patch, 2, lambda: os.kill(os.getpid(), number))
        assert train(*LQ, "--run-dir", tmp_path / "run") == 130
    assert signal.getsignal(number) is before
    said = capsys.readouterr()
    assert (
        f"continue after iteration 3 with: python -m ctcontrol_diffusion.train --resume {tmp_path}"
        in said.out
    )
    assert checkpoints(tmp_path / "run") == ["000002", "000003"]
    assert len(records(tmp_path / "run")) == 3
    assert "3 iterations" in (tmp_path / "run" / "report.html").read_text()
    assert train("--resume", tmp_path / "run") == 0
    assert records(tmp_path / "run") == records(whole)
    assert evaluation(tmp_path / "run") == evaluation(whole)


def test_a_second_interrupt_stops_at_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        at_iteration(patch, 2, twice)
        assert train(*LQ, "--run-dir", tmp_path / "run") == 130
    assert "continue after iteration 2 with" in capsys.readouterr().out
    assert checkpoints(tmp_path / "run") == ["000002"]
    assert train("--resume", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)


def test_an_interrupt_in_an_evaluation_stops_at_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctcontrol_diffusion.run.loop import Run

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_measure_after", lambda _: os.kill(os.getpid(), signal.SIGINT))
        assert train(*LQ, "--run-dir", tmp_path / "run") == 130
    assert train("--resume", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)


def test_a_finished_run_says_so_and_writes_its_report_anew(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "report.html").unlink()
    lines = (run / "metrics.jsonl").read_bytes()
    assert train("--resume", run) == 0
    assert "finished already" in capsys.readouterr().out
    assert (run / "report.html").exists()
    assert (run / "metrics.jsonl").read_bytes() == lines


def test_facts_and_the_first_evaluation_are_not_measured_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ctcontrol_diffusion.run import loop

    monkeypatch.setattr(loop, "facts_to_json", lambda _: pytest.fail("measured again"))
    parts = evaluation(copy)
    parts["before"][0]["numbers"]["regret"]["value"] = 7.0
    (copy / "evaluation.json").write_text(json.dumps(parts))
    assert train("--resume", copy) == 0
    assert evaluation(copy)["before"][0]["numbers"]["regret"]["value"] == 7.0


def test_lines_of_metrics_beyond_the_checkpoint_are_forgotten(copy: Path, whole: Path) -> None:
    shutil.rmtree(copy / "checkpoints" / "000006")
    with (copy / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 6, "half a li')
    assert train("--resume", copy) == 0
    assert_same(copy, whole)


def test_tensorboard_shows_every_point_once(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with monkeypatch.context() as patch:
        at_iteration(patch, 2, lambda: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
        assert train(*LQ, "--run-dir", tmp_path / "run") == 130
    assert train("--resume", tmp_path / "run") == 0
    shown = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    points = [(event.step, event.value) for event in shown.Scalars("reward/mean")]
    wanted = [(r["iteration"], pytest.approx(r["reward"]["mean"])) for r in records(whole)]
    assert points == wanted


def test_a_later_file_of_events_has_a_later_name(tmp_path: Path) -> None:
    """Whatever process writes it: names are all that says which comes first."""
    (tmp_path / f"events.out.tfevents.{int(time.time()) + 1}.host.99999.9").touch()
    TensorBoard(tmp_path, 0).close()
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names[0].endswith("99999.9")


def test_full_disk_while_a_checkpoint_is_written(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ctcontrol_diffusion.run import checkpoint

    write = checkpoint._write

    def full(path: Path, data: bytes) -> str:
        if ".000004." in str(path):
            raise OSError(28, "No space left on device", str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_write", full)
        assert train(*LQ, "--run-dir", tmp_path / "run") == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left on device" in said
    assert f"--resume {tmp_path / 'run'}" in said
    assert checkpoints(tmp_path / "run") == ["000002"]
    assert train("--resume", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("file", ["evaluation.json", "report.html"])
def test_full_disk_while_another_file_is_written(
    file: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).name == file:
            raise OSError(28, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", full)
        assert train(*LQ, "--run-dir", tmp_path / "run") == 3
    assert not list((tmp_path / "run").glob(".*.tmp"))
    assert train("--resume", tmp_path / "run") == 0
    assert_same(tmp_path / "run", whole)


def test_two_processes_cannot_work_on_one_run(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ctcontrol_diffusion.run.directory import open_run

    with open_run(copy).locked():
        assert train("--resume", copy) == 2
    assert "another process is working on" in capsys.readouterr().err


def test_the_last_two_and_the_best_checkpoint_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterations = Experiment.iterations
    returns = {1: 5.0, 4: 9.0}

    def rigged(self: Experiment, start: int = 0) -> Any:
        from dataclasses import replace

        for iteration in iterations(self, start):
            assert isinstance(iteration, Iteration)
            mean = returns.get(iteration.index, 0.0)
            yield replace(iteration, returns=replace(iteration.returns, mean=mean))

    monkeypatch.setattr(Experiment, "iterations", rigged)
    run = tmp_path / "run"
    words = [*LQ, "--checkpoint-every", "1"]
    del words[words.index("--checkpoint-every") : words.index("--checkpoint-every") + 2]
    kept: list[list[str]] = []
    at_iteration(monkeypatch, 5, lambda: kept.append(checkpoints(run)))
    assert train(*words, "--run-dir", run) == 0
    # The rollout of iteration 4 measures the checkpoint after 4 iterations.
    assert kept == [["000004", "000005"]]
    assert checkpoints(run) == ["000004", "000005", "000006"]
