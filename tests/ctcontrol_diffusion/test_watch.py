"""Looks on the way: held-out rewards, drifting images, early stop, the best checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import Experiment, build
from ctcontrol_diffusion.rewards import Info, Metadata
from ctcontrol_diffusion.run.directory import open_run
from ctcontrol_diffusion.run.draw import checkpoint_path
from ctcontrol_diffusion.run.keeper import Keeper
from ctcontrol_diffusion.run.looks import alarms, best_look, gave_up, looks
from ctcontrol_diffusion.run.metrics import Record
from ctcontrol_diffusion.run.watch import Watch
from tests.runs import assert_same, checkpoints, evaluation, records, train
from tests.started import program


def seen(name: str, *means: float | None) -> list[Record]:
    """Records of iterations, with looks where there is a mean."""
    return [
        {"iteration": k, "returns": {"mean": 1.0}}
        | ({} if mean is None else {f"watch/{name}": {"mean": mean, "stderr": 0.1}})
        for k, mean in enumerate(means)
    ]


def test_patience_counts_looks_since_the_best() -> None:
    evaluation = c.Evaluation(rewards=("a b",), stop_on="a b", patience=2)
    rising = seen("a_b", None, 1.0, None, 2.0, None, 3.0)
    assert looks(rising, "a b") == [(2, 1.0), (4, 2.0), (6, 3.0)]
    assert best_look(rising, "a b") == 6
    assert not gave_up(rising, evaluation)
    assert not gave_up(seen("a_b", 1.0, 3.0, 2.0), evaluation)
    assert gave_up(seen("a_b", 1.0, 3.0, 2.0, None, 2.9), evaluation)
    assert gave_up(seen("a_b", 1.0, 1.0, 1.0), evaluation)  # as good as the best is no better
    assert best_look(seen("a_b", 1.0, 1.0), "a b") == 1
    assert not gave_up(seen("a_b", 1.0, 0.0, 0.0), c.Evaluation())
    assert best_look([], "a b") is None


def test_the_held_out_reward_says_which_checkpoint_is_best(tmp_path: Path) -> None:
    for number in (2, 3):
        (tmp_path / f"{number:06d}").mkdir()
    records = seen("r", 9.0, 1.0, 2.0)  # after one iteration it was higher, but that is not kept
    assert Keeper(tmp_path, "r").best(records) == 3
    assert Keeper(tmp_path, "other").best(records) is None
    assert Keeper(tmp_path).best(records) == 2  # by the return of the next rollout


def darkness(images: torch.Tensor, prompts: list[str], metadata: Metadata) -> tuple[Any, Info]:
    return -images.mean((1, 2, 3)), {}


DARKNESS = f"{__name__}:darkness"
FALLING = (
    "digits --threads 1 --iterations 8 --checkpoint-every 4 --rollout.batch 12 --rollout.steps 4 "
    "--update.minibatch 24 --critic.minibatch 24 --critic.width 8 --evaluation.steps 2 "
    "--evaluation.images 20 --evaluation.grid 3 --critic.policy-waits 0 --problem.kl-weight 0 "
    "--problem.reward brightness --update.learning-rate 1e-3 --update.warmup 0 --update.share 1 "
    f"--evaluation.rewards {DARKNESS} --evaluation.stop-on {DARKNESS} "
    "--evaluation.watch-every 1 --evaluation.watch-images 12 --evaluation.patience 2"
).split()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for brightness in steps that are too large, with darkness held out."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    assert train(*FALLING, "--run-dir", folder) == 0
    return folder


def test_a_held_out_reward_that_no_longer_rises_stops_the_run(stopped: Path) -> None:
    done = records(stopped)
    held_out = [record[f"watch/{DARKNESS}"]["mean"] for record in done]
    best = 1 + held_out.index(max(held_out))
    assert len(done) == best + 2 < 8  # two looks without a new best
    assert all(
        record["watch/reward"]["mean"] == pytest.approx(-mean)
        for record, mean in zip(done, held_out, strict=True)
    )
    assert {f"{best:06d}", f"{best + 2:06d}"} <= {*checkpoints(stopped)}
    assert evaluation(stopped)["best"] == {"iterations": best, "by": DARKNESS}
    run = open_run(stopped)
    for name in ("best", "auto"):
        assert checkpoint_path(run, name).name == f"{best:06d}"
    page = run.report.read_text()
    assert "Watched on the way" in page
    assert "at which the held-out reward" in page
    assert "edge density" in page


def test_what_is_evaluated_after_is_the_best(stopped: Path, tmp_path: Path) -> None:
    from ctcontrol_diffusion.evaluate import main

    words = ["--checkpoint", "best", "--no-compare", "--out", str(tmp_path)]
    assert main([str(stopped), *words]) == 0
    best = evaluation(stopped)["best"]["iterations"]
    (path,) = tmp_path.glob(f"evaluation-{best:06d}-*.json")
    numbers = [cell["numbers"] for cell in json.loads(path.read_text())["cells"]]
    assert numbers == [row["numbers"] for row in evaluation(stopped)["after"]]


def test_it_stops_there_after_a_kill_too(stopped: Path, tmp_path: Path) -> None:
    """Killed between two looks, and once more after the last: the same bits."""
    code = """
import os, sys
import torch; torch.set_num_threads(1)
from ctcontrol_diffusion.run.keeper import Keeper
from ctcontrol_diffusion.train import main
save, number = Keeper.save, int(sys.argv[1])
def dying(self, experiment, counters, records):
    save(self, experiment, counters, records)
    if counters.iterations == number:
        os._exit(9)
Keeper.save = dying
main(sys.argv[2:])
"""
    folder = tmp_path / "killed"
    done = program(code, "1", *FALLING, "--run-dir", folder)
    assert done.returncode == 9, done.stderr
    done = program(code, str(len(records(stopped))), "--resume", folder)
    assert done.returncode == 9, done.stderr
    assert train("--resume", folder) == 0
    assert_same(folder, stopped)


def test_patience_that_is_not_used_up_keeps_the_best_too(tmp_path: Path) -> None:
    """The run goes on to its end, and evaluates the best of all its looks."""
    words = [*FALLING[:-1], "9"]
    words[words.index("--iterations") + 1] = "7"
    assert train(*words, "--run-dir", tmp_path / "run") == 0
    done = records(tmp_path / "run")
    assert len(done) == 7
    held_out = [record[f"watch/{DARKNESS}"]["mean"] for record in done]
    best = evaluation(tmp_path / "run")["best"]["iterations"]
    assert held_out[best - 1] == max(held_out)
    assert f"{best:06d}" in checkpoints(tmp_path / "run")


CONFIG = c.Config(
    threads=1,
    rollout=c.Rollout(steps=10, batch=8),
    update=c.Update(minibatch=16, share=1.0),
    critic=c.Critic(minibatch=16, width=8),
    evaluation=c.Evaluation(watch_every=2, watch_images=24),
)


def watched(experiment: Experiment, folder: Path) -> tuple[Watch, list[str]]:
    said: list[str] = []
    watch = Watch(folder, experiment, said.append)
    watch.begin()
    return watch, said


@torch.no_grad()
def test_an_unchanged_policy_gives_no_warning(tmp_path: Path) -> None:
    experiment = build(CONFIG)
    watch, said = watched(experiment, tmp_path)
    assert watch.look(1) == {}
    record = watch.look(2)
    drifts = {key: drift for key, drift in record.items() if key.startswith("drift/")}
    assert len(drifts) == 4
    assert all(drift["shift"] == 0 and not drift["alarming"] for drift in drifts.values())
    for parameter in experiment.setting.mean.parameters():  # a step of training moves as much
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
        parameter += 0.002 * parameter.abs().mean() * noise
    moved = watch.look(4)
    assert any(drift["shift"] for key, drift in moved.items() if key.startswith("drift/"))
    assert alarms([moved | {"iteration": 3}]) == {}
    assert said == []


@torch.no_grad()
def test_a_hacking_policy_gives_one_warning_a_statistic(tmp_path: Path) -> None:
    """A score that ignores the data and makes everything light, as brightness would have it."""
    experiment = build(CONFIG)
    watch, said = watched(experiment, tmp_path)
    score: Any = experiment.setting.mean
    score.network.conv_out.bias -= 0.5
    record = watch.look(2) | {"iteration": 1}
    assert "dark_pixels" in alarms([record])
    count = len(said)
    assert count == len(alarms([record]))
    assert any(text.startswith("after iteration 2: dark pixels fell from") for text in said)
    watch.look(4)
    assert len(said) == count
    score.network.conv_out.bias += 0.5
    watch.look(6)
    score.network.conv_out.bias -= 0.5
    watch.look(8)
    assert len(said) == 2 * count  # said again where it had been well in between


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--evaluation.stop-on symmetry", "symmetry is not among the held-out rewards (there are"),
        (
            "--evaluation.rewards symmetry --evaluation.stop-on symmetry "
            "--evaluation.watch-every 0",
            "--evaluation.watch-every must be at least 1 with --evaluation.stop-on, got 0",
        ),
        ("--evaluation.rewards symetry", "unknown reward 'symetry'; did you mean 'symmetry'?"),
        ("--evaluation.rewards json:loads", "must be a function (images,"),
        ("--evaluation.patience 0", "--evaluation.patience must be a whole number >= 1, got 0"),
        ("--evaluation.watch-images 2", "--evaluation.watch-images must be a whole number >= 3"),
        ("--problem.held-out 11", "--problem.held-out must be digits, 0 … 9, got 11"),
        ("--problem.held-out 0 1 2 3 4 5 6 7 8 9", "must be at most nine of them, got all ten"),
    ],
)
def test_bad_words(
    words: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("digits", *words.split(), "--run-dir", tmp_path / "run") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_regulator_has_no_images_to_judge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lq-smoke", "--evaluation.rewards", "symmetry", "--run-dir", str(tmp_path / "run")]
    assert train(*words) == 2
    assert "a regulator has none" in capsys.readouterr().err
