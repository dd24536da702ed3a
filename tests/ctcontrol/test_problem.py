"""A control problem refuses what defines no return."""

from dataclasses import replace

import pytest
import torch

from ctcontrol import CtcontrolError, TerminalReward
from tests.problems import regulator


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_horizons_are_named(bad: float) -> None:
    with pytest.raises(CtcontrolError, match=f"horizon must be a finite number > 0, got {bad}"):
        replace(regulator().problem, horizon=bad)


def test_bad_discounts_are_named() -> None:
    with pytest.raises(CtcontrolError, match=r"discount must be a finite number >= 0, got -0.1"):
        replace(regulator().problem, discount=-0.1)


def test_the_weight_of_the_penalty() -> None:
    assert regulator().problem.penalty_weight == 0.0
    assert regulator(kl_weight=0.4).problem.penalty_weight == 0.4


def test_terminal_rewards_pay_nothing_on_the_way() -> None:
    reward = TerminalReward(lambda x, c: x.sum(1) + c)
    x = torch.ones(3, 2)
    assert reward.running(torch.zeros(3).double(), x, x, None).tolist() == [0.0] * 3
    assert reward.running(torch.zeros(3).double(), x, x, None).dtype == x.dtype
    assert reward.terminal(x, torch.arange(3)).tolist() == [2.0, 3.0, 4.0]
