"""Two processes on the CPU, started by torchrun: one run, whoever does the work and whatever ends.

Where the command itself is not the point, its agent runs in a process that has imported torch.

Losses and gradients are summed in another order than by one process, so that what is compared with
it differs by rounding, which Adam enlarges to a share of the learning rate.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ctcontrol import Alone, CtcontrolError
from ctcontrol_diffusion.processes import device_of, join
from ctcontrol_diffusion.run.interrupts import Interrupts
from ctcontrol_diffusion.run.team import Team
from tests.runs import DIGITS, LQ, assert_same, checkpoints, evaluation, records, train
from tests.started import started

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys
folder, patch, words = sys.argv[1], sys.argv[2], sys.argv[3:]
rank = int(os.environ["RANK"])
exec(patch)
from ctcontrol_diffusion.train import main
status = main(words)
open(os.path.join(folder, f"status-{rank}"), "w").write(str(status))
sys.exit(status)
"""
AGENT = """
import sys
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
path = sys.argv.pop(1)
program = compile(open(path).read(), path, "exec")
standalone = dict(rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id="here", max_restarts=0)
config = LaunchConfig(1, 1, nproc_per_node=2, start_method="fork", **standalone)
elastic_launch(config, exec)(program, {"__name__": "__main__"})
"""
"""What `python -m torch.distributed.run --standalone --nproc_per_node=2` does, but it forks."""


def changed(words: list[str], flag: str, value: str) -> list[str]:
    """The same words with another value of a flag."""
    place = words.index(flag) + 1
    return [*words[:place], value, *words[place + 1 :]]


UNEVEN = [*changed(LQ, "--rollout.batch", "33"), "--micro-batch", "10"]


@dataclass
class Launch:
    """What became of a launch: what it said, and the exit status of every process that had one."""

    out: str
    err: str
    statuses: dict[int, int]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error:")]


def torchrun(folder: Path, *words: str | Path, interrupt: Path | None = None) -> Launch:
    """Two processes of the train command; Ctrl-C once there are lines in the file `interrupt`."""
    program = _program(folder)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = subprocess.Popen(
        [*launcher, str(program), str(folder), "", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    try:
        if interrupt is not None:
            _when_written(interrupt, process)
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=100)
    finally:
        process.kill()
    return Launch(out, err, _statuses(folder))


def agent(folder: Path, *words: str | Path, patch: str = "") -> Launch:
    """The same two processes, watched in the same way, without their seconds of imports."""
    with started(AGENT, _program(folder), folder, patch, *words) as begun:
        ended = begun.ended()
    return Launch(ended.stdout, ended.stderr, _statuses(folder))


def _program(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    program = folder / "program.py"
    program.write_text(PROGRAM)
    return program


def _statuses(folder: Path) -> dict[int, int]:
    found = {r: folder / f"status-{r}" for r in range(2)}
    return {r: int(path.read_text()) for r, path in found.items() if path.exists()}


def two(folder: Path, *words: str | Path, patch: str = "") -> Launch:
    """The same two processes, which nobody watches."""
    folder.mkdir(exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    known = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{**known, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(2)]
    told = str(folder), patch, *map(str, words)
    first, second = (started(PROGRAM, *told, environment=rank) for rank in ranks)
    with first as one, second as other:
        ended = [one.ended(), other.ended()]
    statuses = {r: done.returncode for r, done in enumerate(ended)}
    return Launch("".join(d.stdout for d in ended), "".join(d.stderr for d in ended), statuses)


def _when_written(path: Path, process: "subprocess.Popen[str]") -> None:
    while process.poll() is None and not (path.exists() and path.read_bytes().count(b"\n") > 1):
        time.sleep(0.05)


def numbers(value: Any) -> Iterator[float]:
    """Every number of nested values."""
    match value:
        case dict():
            for entry in value.values():
                yield from numbers(entry)
        case list():
            for entry in value:
                yield from numbers(entry)
        case int() | float():
            yield value
        case _:  # texts and nothing
            pass


def assert_near(run: Path, other: Path, tolerance: float = 1e-5) -> None:
    """Metrics and weights agree but for rounding, and so does what samplers make of it."""
    pairs = ((records(run), records(other), 1), (evaluation(run), evaluation(other), 100))
    for mine, its, times in pairs:
        first, second = list(numbers(mine)), list(numbers(its))
        assert first == pytest.approx(second, rel=times * tolerance, abs=times * tolerance)
    last = checkpoints(other)[-1]
    for name in ("policy", "value"):
        parts = [load_file(r / "checkpoints" / last / f"{name}.safetensors") for r in (run, other)]
        for key, tensor in parts[0].items():
            torch.testing.assert_close(tensor, parts[1][key], rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert train(*UNEVEN, "--run-dir", folder) == 0
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run of two, undisturbed."""
    folder = tmp_path_factory.mktemp("pair")
    done = torchrun(folder, *UNEVEN, "--run-dir", folder / "run")
    assert done.statuses == {0: 0, 1: 0}, done.err
    assert done.out.count("run: ") == 1
    assert done.errors == []
    return folder / "run"


# One process dies as by `kill -9` when the checkpoint after four iterations is there. The other has
# to find out by itself: it does not hear the launcher, which may be faster to tell it.
DIES = """
import signal
from ctcontrol_diffusion.run import interrupts
if rank == 0:
    interrupts.SIGNALS = (signal.SIGINT,)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if rank == 1:
    from ctcontrol_diffusion.run.team import Team
    led, turns = Team.led, []
    def die(self, work):
        led(self, work)
        turns.append(0)
        if len(turns) == 5:  # the evaluation before, and four iterations
            os.kill(os.getpid(), signal.SIGKILL)
    Team.led = die
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of which one process was killed."""
    folder = tmp_path_factory.mktemp("killed")
    done = agent(folder, *UNEVEN, "--run-dir", folder / "run", patch=DIES)
    assert done.statuses == {0: 3}, done.err
    (error,) = done.errors
    assert "another process ended; everything up to the last checkpoint is kept in" in error
    assert "after" not in evaluation(folder / "run")
    assert "000004" in checkpoints(folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_two_processes_are_one(pair: Path, alone: Path) -> None:
    assert_near(pair, alone)


@pytest.mark.slow
def test_digits_by_two_processes_are_those_of_one(tmp_path: Path) -> None:
    # Parts of six on either side, because convolutions round differently by shape.
    words = [*DIGITS, "--update.learning-rate", "1e-5", "--micro-batch", "6"]
    assert train(*words, "--run-dir", tmp_path / "alone") == 0
    done = two(tmp_path, *words, "--run-dir", tmp_path / "pair")
    assert done.statuses == {0: 0, 1: 0}, done.err
    assert_near(tmp_path / "pair", tmp_path / "alone")


@pytest.mark.slow
def test_killed_and_resumed_by_two(killed: Path, pair: Path, tmp_path: Path) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    done = two(tmp_path, "--resume", run)
    assert done.statuses == {0: 0, 1: 0}, done.err
    assert_same(run, pair)


@pytest.mark.slow
def test_killed_and_resumed_by_one(killed: Path, alone: Path, tmp_path: Path) -> None:
    run = shutil.copytree(killed, tmp_path / "run")
    assert train("--resume", run) == 0
    assert_near(run, alone)


@pytest.mark.slow
def test_begun_by_one_and_resumed_by_two(alone: Path, tmp_path: Path) -> None:
    run = shutil.copytree(alone, tmp_path / "run")
    parts = evaluation(run)
    del parts["after"]
    (run / "evaluation.json").write_text(json.dumps(parts))
    shutil.rmtree(run / "checkpoints" / "000006")
    done = two(tmp_path, "--resume", run)
    assert done.statuses == {0: 0, 1: 0}, done.err
    assert_near(run, alone)


SPOILS = """
if rank == 1:
    from ctcontrol import Gaussian
    at, calls = Gaussian.at, []
    def spoil(self, noise):
        calls.append(0)
        return at(self, noise) * (float("nan") if len(calls) > 50 else 1)
    Gaussian.at = spoil
"""


@pytest.mark.slow
def test_nan_on_one_process_ends_all_with_one_message(tmp_path: Path) -> None:
    done = agent(tmp_path, *UNEVEN, "--run-dir", tmp_path / "run", patch=SPOILS)
    assert done.statuses == {0: 3, 1: 3}
    (error,) = done.errors
    assert "NaN or infinite" in error
    assert bool(load_file(tmp_path / "run" / "failed_batch.safetensors")["states"].isnan().any())


@pytest.mark.slow
def test_an_interrupt_waits_for_the_iteration_of_all(tmp_path: Path) -> None:
    words, run = changed(UNEVEN, "--iterations", "5000"), tmp_path / "run"
    done = torchrun(tmp_path, *words, "--run-dir", run, interrupt=run / "metrics.jsonl")
    assert done.statuses == {0: 130, 1: 130}, done.err
    assert done.errors == []
    assert done.out.count("stopped; continue after iteration") == 1
    count = len(records(run))
    assert checkpoints(run)[-1] == f"{count:06d}"


@pytest.mark.slow
def test_bad_input_is_said_once(alone: Path, tmp_path: Path) -> None:
    done = agent(tmp_path, *UNEVEN, "--run-dir", alone)
    assert done.statuses == {0: 2, 1: 3} or done.statuses == {0: 2}
    (error,) = done.errors
    assert "already holds a run" in error
    other = two(tmp_path, *changed(UNEVEN, "--threads", "0"))
    assert len(other.errors) == 1
    assert "--threads must be" in other.errors[0]


class TestAlone:
    def test_nobody_to_meet(self) -> None:
        assert isinstance(join("cuda"), Alone)

    def test_a_launcher_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        with pytest.raises(CtcontrolError, match="start them by torchrun --nproc_per_node"):
            join("cuda")

    def test_all_that_a_team_does(self) -> None:
        team, done = Team(), list[str]()
        team.led(lambda: done.append("led"))
        assert team.each(lambda: 3) == 3
        assert team.told(lambda: "größer") == "größer"
        assert (team.any(True), team.any(False)) == (True, False)
        team.check_same("networks", "abc")
        assert team.spoken(3, lambda: done.append("said")) == 3
        assert done == ["led", "said"]
        assert team.leads

    def test_every_process_takes_a_gpu_of_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.peers import Seat, Table

        two = Seat(Table(2), 1)
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert device_of("cuda", two) == "cuda:1"
        assert device_of("cuda:0", Alone()) == "cuda:0"
        assert device_of("cpu", two) == "cpu"
        with pytest.raises(CtcontrolError, match="is one GPU for 2 processes; give --device cuda"):
            device_of("cuda:0", two)

    def test_the_echo_of_an_interrupt_is_the_same_one(self) -> None:
        interrupts = Interrupts(quiet=True, echo=60.0)
        with interrupts.installed(), interrupts.deferred():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            assert interrupts.waiting
