"""A run ends with the mean of its last weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runs import DIGITS, records, train


def _policy(run: Path, iterations: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"{iterations:06d}" / "policy.safetensors")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert train(*DIGITS, "--update.averaged", "0", "--run-dir", folder) == 0
    return folder


def test_the_last_checkpoint_holds_the_mean(plain: Path, tmp_path: Path) -> None:
    """Of two updates of three, one an iteration; until then both are the same run."""
    assert train(*DIGITS, "--update.averaged", "0.67", "--run-dir", tmp_path / "run") == 0
    assert records(tmp_path / "run") == records(plain)
    second, third = (_policy(plain, k) for k in (2, 3))
    assert _policy(tmp_path / "run", 2).keys() == second.keys()
    moved = 0.0
    for name, value in _policy(tmp_path / "run", 3).items():
        assert torch.equal(_policy(tmp_path / "run", 2)[name], second[name])
        torch.testing.assert_close(value, (second[name] + third[name]) / 2, rtol=0, atol=1e-7)
        moved += float((value - third[name]).abs().sum())
    assert moved > 1e-3
