"""The folder of a run: made once, whole files only, and never taken for what it is not."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ctcontrol import CtcontrolError, Updater
from ctcontrol_diffusion.config import Config, Update
from ctcontrol_diffusion.presets import PRESETS
from ctcontrol_diffusion.run.checkpoint import Counters
from ctcontrol_diffusion.run.config_file import config_from_json, config_to_json
from ctcontrol_diffusion.run.directory import RunDirectory, create, new_folder, open_run
from ctcontrol_diffusion.run.files import to_json, write_atomically
from ctcontrol_diffusion.run.keeper import Keeper
from ctcontrol_diffusion.run.metrics import Metrics
from ctcontrol_diffusion.run.tensors import (
    check_module,
    fingerprint,
    module_tensors,
    optimizer_state,
    optimizer_tensors,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create(tmp_path / "run", "lq-smoke", PRESETS["lq-smoke"], "0" * 64)


def test_what_was_created_can_be_opened(run: RunDirectory) -> None:
    assert open_run(run.path) == run
    assert run.evaluation() == {}
    assert run.metrics.read() == []
    assert run.keeper.numbers() == []


def change(path: Path, act: Callable[[dict[str, Any]], object]) -> None:
    about = json.loads((path / "config.json").read_text())
    act(about)
    (path / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda a: a.pop("config"), "config is missing"),
        (lambda a: a.pop("preset"), "preset is missing"),
        (lambda a: a["config"].update(colour="red"), "config.colour is not a field"),
        (lambda a: a["config"]["update"].update(x=1), "config.update.x is not a field"),
        (lambda a: a["config"].update(seed="one"), "config.seed should be of type int, got 'one'"),
        (lambda a: a["config"].update(seed=True), "config.seed should be of type int, got True"),
        (lambda a: a["config"].update(algorithm="x"), "config.algorithm should be one of ctrl"),
        (lambda a: a["config"]["rollout"].update(exploration="x"), "config.rollout.exploration"),
        (lambda a: a["config"]["problem"].update(type="Chess"), "problem.type is 'Chess'"),
        (lambda a: a["config"].update(rollout=3), "config.rollout should hold named values"),
        (lambda a: a["config"]["evaluation"].update(steps=3), "should be a list, got 3"),
    ],
)
def test_a_foreign_config_is_refused(
    act: Callable[[dict[str, Any]], object], text: str, run: RunDirectory
) -> None:
    change(run.path, act)
    with pytest.raises(CtcontrolError, match="is not the config of a run") as refused:
        open_run(run.path)
    assert text in str(refused.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "\x00\xff"])
def test_a_damaged_config_is_refused(content: str, run: RunDirectory) -> None:
    (run.path / "config.json").write_text(content)
    with pytest.raises(CtcontrolError, match="is not the config of a run"):
        open_run(run.path)


def test_a_config_of_an_older_version_takes_the_new_defaults(run: RunDirectory) -> None:
    change(run.path, lambda about: about["config"].pop("seed"))
    assert open_run(run.path).config == replace(run.config, seed=0)


@pytest.mark.parametrize(("field", "former"), [("credited", 1.0), ("averaged", 0.0)])
def test_runs_from_before_a_field_go_on_as_they_did(field: str, former: float) -> None:
    """All steps of a path earned advantages then, and no weights were averaged."""
    data = json.loads(json.dumps(config_to_json(Config())))
    del data["update"][field]
    assert getattr(Config().update, field) != former
    expected = replace(Config(), update=replace(Update(), **{field: former}))
    assert config_from_json(data) == expected


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CtcontrolError, match="holds no run"):
        open_run(tmp_path)
    with pytest.raises(CtcontrolError, match="does not exist"):
        open_run(tmp_path / "nowhere")


def test_folders_for_new_runs(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(CtcontrolError, match="already holds a run"):
        new_folder(run.path, "digits")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(CtcontrolError, match="holds other things"):
        new_folder(tmp_path / "full", "digits")
    with pytest.raises(CtcontrolError, match="holds other things"):
        new_folder(tmp_path / "full" / "letter.txt", "digits")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".config.json.77.tmp").touch()  # a start that was cut off
    assert new_folder(tmp_path / "empty", "digits") == tmp_path / "empty"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CtcontrolError, match="choose another folder with --run-dir"):
        create(tmp_path / "file" / "run", "digits", PRESETS["digits"], "")


def test_parts_of_an_evaluation_add_up(run: RunDirectory) -> None:
    run.keep_evaluation(facts={"x": 1.0})
    run.keep_evaluation(before=[math.nan])
    assert run.evaluation() == {"facts": {"x": 1.0}, "before": [None]}
    (run.path / "evaluation.json").write_text('{"facts"')
    assert run.evaluation() == {}


def test_a_file_is_old_or_new_but_never_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_atomically(file, "old")
    with monkeypatch.context() as patch:

        def crash(*_: object) -> None:
            assert file.read_text() == "old"
            raise OSError(28, "No space left on device")

        for name in ("fsync", "replace"):
            patch.setattr(os, name, crash)
            with pytest.raises(OSError, match="No space"):
                write_atomically(file, "new")
            patch.undo()
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
    write_atomically(file, b"new")
    assert file.read_text() == "new"


def test_json_is_strict() -> None:
    assert (
        to_json({"a": [math.inf, (math.nan, 1.5)], "b": "κ"})
        == '{"a": [null, [null, 1.5]], "b": "κ"}'
    )


def test_metrics_keep_whole_lines_only(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for k in range(3):
        metrics.append({"iteration": k})
    with metrics.path.open("ab") as file:
        file.write(b'{"iteration": 3, "rew')
    assert [r["iteration"] for r in metrics.read()] == [0, 1, 2]
    assert [r["iteration"] for r in metrics.truncate(2)] == [0, 1]
    assert metrics.path.read_text() == '{"iteration": 0}\n{"iteration": 1}\n'
    metrics.path.write_bytes(b'{"iteration": 0}\n\x00\x00\x00\n{"iteration": 2}\n')
    assert metrics.read() == [{"iteration": 0}]


def record(iteration: int, mean: float | None) -> dict[str, Any]:
    return {"iteration": iteration, "returns": {"mean": mean}}


def test_the_best_checkpoint_is_the_one_the_next_rollout_liked(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    assert keeper.best([record(0, 9.0)]) is None
    for name in ("000002", "000004", "000006", "000008.unusable", ".000010.1.tmp"):
        (tmp_path / name).mkdir()
    assert keeper.numbers() == [2, 4, 6]
    records = [record(k, float(k == 4)) for k in range(6)]
    assert keeper.best(records) == 4
    assert keeper.best(records[:4]) == 2
    assert keeper.best([record(2, None), record(4, -1.0)]) == 4


def test_counters_start_at_zero() -> None:
    assert Counters() == Counters(iterations=0, images=0, elapsed=0.0)


def network(width: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.Linear(width, 1))


def updater_of(module: nn.Module, steps: int) -> Updater:
    updater = Updater.adam(module, 1e-2, betas=(0.8, 0.9), schedule=lambda n: 1 / (1 + n))
    for k in range(steps):
        updater.step(module(torch.full((4, 2), 1.0 + k)).square().mean())
    return updater


def test_an_optimizer_continues_from_flat_tensors_exactly() -> None:
    first, second = network(), network()
    a, b = updater_of(first, 5), updater_of(second, 0)
    tensors, rest = optimizer_tensors(a.state_dict())
    b.load_state_dict(optimizer_state(tensors, json.loads(json.dumps(rest)), b.optimizer))
    second.load_state_dict(first.state_dict())
    assert str(b.state_dict()) == str(a.state_dict())
    for _ in range(3):
        for module, updater in ((first, a), (second, b)):
            updater.step(module(torch.ones(4, 2)).square().mean())
    for p, q in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("other", [network(5), nn.Linear(2, 1)])
def test_the_state_of_another_optimizer_is_refused(other: nn.Module) -> None:
    tensors, rest = optimizer_tensors(updater_of(network(), 2).state_dict())
    optimizer = Updater.adam(other, 1e-2).optimizer
    with pytest.raises(CtcontrolError, match="the optimizer's state"):
        optimizer_state(tensors, rest, optimizer)
    with pytest.raises(CtcontrolError, match="another kind"):
        optimizer_state({}, rest, torch.optim.SGD(network().parameters(), 0.1))


def test_frozen_parameters_are_not_kept_but_buffers_are() -> None:
    module = network()
    for parameter in module[0].parameters():
        parameter.requires_grad_(False)
    kept = module_tensors(module)
    assert not any(name.startswith("0.") for name in kept)
    assert {"1.running_mean", "1.weight", "2.weight"} <= set(kept)
    check_module(module, kept)
    with pytest.raises(CtcontrolError, match=r"tensor 2\.bias is missing"):
        check_module(module, {k: v for k, v in kept.items() if k != "2.bias"})
    with pytest.raises(CtcontrolError, match=r"tensor more is unknown"):
        check_module(module, kept | {"more": torch.zeros(1)})
    with pytest.raises(CtcontrolError, match=r"2\.weight is \(3,\) torch\.float64, but should be"):
        check_module(module, kept | {"2.weight": torch.zeros(3, dtype=torch.float64)})


def test_a_fingerprint_sees_every_bit() -> None:
    module = network()
    before = fingerprint({"policy": module})
    assert fingerprint({"policy": network()}) == before
    assert fingerprint({"value": module}) != before
    with torch.no_grad():
        weight = module.state_dict()["2.weight"]
        weight[0, 0] = torch.nextafter(weight[0, 0], torch.tensor(torch.inf))
    assert fingerprint({"policy": module}) != before
