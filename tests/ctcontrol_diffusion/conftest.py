"""A finished run, made once a module, and copies of it to be disturbed."""

import json
import shutil
from pathlib import Path

import pytest

from tests.runs import LQ, evaluation, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert train(*LQ, "--run-dir", folder) == 0
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """The undisturbed run as if killed before its last evaluation."""
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    parts = evaluation(folder)
    del parts["after"]
    (folder / "evaluation.json").write_text(json.dumps(parts))
    return folder
