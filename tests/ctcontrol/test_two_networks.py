"""Policy and reference of a path KL beside each other, where both are networks of images."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import (
    ControlProblem,
    GaussianPolicy,
    PathKL,
    TerminalReward,
    TimeGrid,
    Trajectory,
    simulate,
)
from ctcontrol.exact.tilt import Reversal, VariancePreserving
from tests.helpers import seeded

GRID = TimeGrid.uniform(1.0, 6)


class _Counted(nn.Module):
    """A score of images that knows in how many threads it was asked."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1).double()
        nn.init.constant_(self.layer.weight, weight)
        self.asked: set[tuple[int, int]] = set()

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        self.asked.add((threading.get_ident(), torch.get_num_threads()))
        if self.training and float(t[0]) > 0.5:
            raise ArithmeticError("of the reference")
        return self.layer(x).tanh()


def _run(network: nn.Module, reference: nn.Module) -> Trajectory:
    problem = ControlProblem(
        sde=Reversal(VariancePreserving(0.1, 5.0, 1.0)),
        reward=TerminalReward(lambda x, context: x.sum((1, 2, 3))),
        initial=lambda n, generator: (torch.ones(n, 1, 4, 4).double(), None),
        horizon=1.0,
        regularizer=PathKL(GaussianPolicy(reference), 0.5),
    )
    return simulate(problem, GaussianPolicy(network), GRID, 6, generator=seeded(2))


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def test_they_share_the_threads_and_change_nothing(two_threads: None) -> None:
    network, other = _Counted(0.1).eval(), _Counted(0.2).eval()
    two = _run(network, other)
    assert torch.get_num_threads() == 2
    me = threading.get_ident()
    assert network.asked == {(me, 1)}
    assert {threads for _, threads in other.asked} == {1}
    assert me not in {thread for thread, _ in other.asked}
    torch.set_num_threads(1)
    other.asked.clear()
    one = _run(network, other)
    assert other.asked == {(me, 1)}
    assert torch.equal(two.states, one.states)
    assert torch.equal(two.penalties, one.penalties)


def test_one_network_with_two_policies_keeps_all_threads(two_threads: None) -> None:
    """Whoever asks it as the one keeps who wants the other waiting."""
    network = _Counted(0.1).eval()
    _run(network, network)
    assert network.asked == {(threading.get_ident(), 2)}


def test_what_the_reference_raises_is_raised(two_threads: None) -> None:
    with pytest.raises(ArithmeticError, match="of the reference"):
        _run(_Counted(0.1).eval(), _Counted(0.2).train())
    assert torch.get_num_threads() == 2
