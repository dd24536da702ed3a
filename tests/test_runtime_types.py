"""Signatures tell the truth: runs with every type and shape checked at every call."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


PRESETS = ("digits", "lq-smoke")


@pytest.mark.slow
def test_signatures_are_true_at_run_time() -> None:
    command = [sys.executable, "-m", "tests.runtime_types", *PRESETS]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    for preset in PRESETS:
        assert f"{preset}: every call" in result.stdout
