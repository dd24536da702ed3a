"""Damaged and foreign checkpoints are found, and passed over where an older one is whole."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.runs import assert_same, checkpoints, train


def damage(checkpoint: Path, how: str) -> None:
    state, policy = checkpoint / "state.json", checkpoint / "policy.safetensors"
    data = policy.read_bytes()
    match how:
        case "truncated":
            policy.write_bytes(data[: len(data) // 2])
        case "one bit":
            policy.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "missing file":
            policy.unlink()
        case "no manifest":
            state.unlink()
        case "manifest cut":
            state.write_bytes(state.read_bytes()[:50])
        case "not json object":
            state.write_text("[1, 2]")
        case "other format":
            state.write_text(state.read_text().replace('"format": 1', '"format": 99'))
        case _:
            foreign(checkpoint, how)


def foreign(checkpoint: Path, how: str) -> None:
    """Whole files with right checksums, but of another run."""
    import hashlib

    file = checkpoint / (
        "value-optimizer.safetensors" if "optimizer" in how else "value.safetensors"
    )
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    match how:
        case "other shape" | "optimizer of other shape":
            tensors = {
                k: v.repeat(2, *[1] * (v.ndim - 1)) if v.ndim else v for k, v in tensors.items()
            }
        case "other dtype":
            tensors = {k: v.double() for k, v in tensors.items()}
        case "unknown tensor":
            tensors["more"] = tensors[name].clone()
        case "missing tensor":
            del tensors[name]
        case _:
            tensors["99/exp_avg"] = tensors[name].clone()
    save_file(tensors, file)
    state = json.loads((checkpoint / "state.json").read_text())
    state["sha256"][file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (checkpoint / "state.json").write_text(json.dumps(state))


DAMAGES = [
    *("truncated", "one bit", "missing file", "no manifest", "manifest cut", "not json object"),
    *("other format", "other shape", "other dtype", "unknown tensor", "missing tensor"),
    *("optimizer of other shape", "optimizer of more parameters"),
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(
    how: str, copy: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copy / "checkpoints" / "000006", how)
    assert train("--resume", copy) == 0
    said = capsys.readouterr().out
    assert said.count("warning: ") == 1
    assert "continuing from the checkpoint before it, 000004" in said
    assert_same(copy, whole)
    assert "000006.unusable" in checkpoints(copy)


def test_no_usable_checkpoint_is_one_sentence(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in checkpoints(copy):
        damage(copy / "checkpoints" / name, "one bit")
    kept = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name != ".lock"}
    assert train("--resume", copy) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: no checkpoint can be used: ")
    assert said.err.count("\n") == 1
    for path, content in kept.items():
        if "tensorboard" not in path.parts:
            assert path.read_bytes() == content


def test_other_pretrained_weights_are_refused(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((copy / "config.json").read_text())
    about["initial_weights"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(about))
    assert train("--resume", copy) == 2
    assert "the pretrained weights are not those" in capsys.readouterr().err


def test_other_versions_are_mentioned(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about = json.loads((copy / "config.json").read_text())
    about["versions"]["torch"] = "1.0"
    (copy / "config.json").write_text(json.dumps(about))
    assert train("--resume", copy) == 0
    assert "warning: this run began with torch 1.0 and goes on with" in capsys.readouterr().out
