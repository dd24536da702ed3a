"""What every test stands on: one thread, fixed randomness, no network, two hypothesis profiles."""

import os
import socket
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the programs that tests start

import pytest
import torch
from hypothesis import HealthCheck, settings

# Small networks are several times slower on many threads than on one.
torch.set_num_threads(1)

settings.register_profile("dev", max_examples=20, deadline=None)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

TOGETHER = ("ranks", "resume", "watch", "evaluate", "pretrain", "train", "sample", "export")
"""Files whose tests share runs that took long to make: one process makes them, once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say what stays in one of the processes of xdist."""
    for item in items:
        if item.path.stem.removeprefix("test_") in TOGETHER:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture
def generator() -> torch.Generator:
    """A generator that starts from the same seed in every test."""
    return torch.Generator().manual_seed(20250203)


@pytest.fixture
def float64() -> Iterator[torch.dtype]:
    """Double precision by default within one test, for identities that hold to rounding."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch.float64
    torch.set_default_dtype(before)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Tests may come in any order: layers draw their first weights from the global generator, and
    a command that ran in this process leaves it as many threads as it was told to use."""
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a test marked `network` may leave this machine."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = address[0]
            assert host in ("127.0.0.1", "::1", "localhost"), f"a test tried to reach {host}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
