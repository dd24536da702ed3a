"""Signatures tell the truth: runs with every type and shape checked at every call."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["digits", "lq-smoke"])
def test_signatures_are_true_at_run_time(preset: str) -> None:
    command = [sys.executable, "-m", "tests.runtime_types", preset]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "every call" in result.stdout
