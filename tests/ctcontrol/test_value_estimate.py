"""Brute force against values that are known."""

import pytest
import torch

import ctcontrol as ct
from tests.helpers import normal, seeded
from tests.problems import ChainValue, regulator

GRID = ct.TimeGrid.from_times([0.0, 0.3, 0.7, 1.2])
LINEAR = regulator(kl_weight=0.3)
STD = torch.tensor(0.4, dtype=torch.float64)
K, k = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2


def policy() -> ct.GaussianPolicy:
    return ct.GaussianPolicy(LINEAR.mean(K, k), 0.4)


@pytest.mark.parametrize("node", [0, 1, 2])
def test_it_is_the_value_of_the_chain(node: int) -> None:
    """Discounted to the node itself, penalties included."""
    x = normal(6, 2, seed=node + 5)
    found = ct.estimate_value(
        LINEAR.problem, policy(), GRID, node, x, None, 4000, generator=seeded(node), at_once=5000
    )
    exact = ChainValue(GRID, LINEAR.values(GRID, K, k, STD))
    t = GRID.times[node].expand(6)
    gap = (found.mean - exact.at(t, x, None)) / found.stderr
    assert float(gap.abs().max()) < 4.5
    assert float(found.stderr.max()) < 0.05


def test_its_error_bar_is_that_of_independent_draws() -> None:
    x = normal(1, 2, seed=3).expand(400, 2)
    found = ct.estimate_value(LINEAR.problem, policy(), GRID, 1, x, None, 50, generator=seeded(1))
    assert float(found.mean.std() / found.stderr.mean()) == pytest.approx(1, abs=0.15)


def test_contexts_stay_with_their_rows() -> None:
    seen: list[torch.Tensor] = []

    def pays(x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        seen.append(context)
        return context.double()

    problem = ct.ControlProblem(LINEAR.sde, ct.TerminalReward(pays), LINEAR.initial, 1.2)
    context, x = torch.tensor([7, 1, 4]), normal(3, 2)
    found = ct.estimate_value(
        problem, policy(), GRID, 2, x, context, 5, generator=seeded(1), at_once=4
    )
    assert torch.equal(found.mean, context.double())
    assert all(len(part) <= 4 for part in seen)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node": 3}, r"node must be one of 0 … 2, the beginning of a step, got 3"),
        ({"node": -1}, "got -1"),
        ({"draws": 1}, "draws"),
        ({"at_once": 0}, "at_once"),
    ],
)
def test_what_is_refused(changes: dict[str, int], message: str) -> None:
    words = {"node": 0, "draws": 2, "at_once": 8} | changes
    with pytest.raises(ct.CtcontrolError, match=message):
        ct.estimate_value(
            LINEAR.problem,
            policy(),
            GRID,
            words["node"],
            normal(3, 2),
            None,
            words["draws"],
            generator=seeded(),
            at_once=words["at_once"],
        )
