"""The contract of `Reward`: one number a row."""

import torch

from ctcontrol import Reward
from tests.helpers import assert_close, assert_covers, normal
from tests.tables import REWARDS, Row, kinds, over

BATCH = 5


def test_every_implementation_has_a_row() -> None:
    assert_covers(Reward, kinds(REWARDS))


@over(REWARDS)
class TestReward:
    def test_one_number_a_row(self, case: Row) -> None:
        reward, context = case.make(), case.context(BATCH)
        t = torch.linspace(0, 0.9, BATCH, dtype=torch.float64)
        x, a = normal(BATCH, *case.state, seed=1), normal(BATCH, *case.action, seed=2)
        order = torch.tensor([4, 0, 0])
        chosen = None if context is None else context[order]
        running, terminal = reward.running(t, x, a, context), reward.terminal(x, context)
        for value in (running, terminal):
            assert value.shape == (BATCH,)
            assert value.dtype == x.dtype
        part = reward.running(t[order], x[order], a[order], chosen)
        assert_close(part, running[order], 1e-12)
        assert_close(reward.terminal(x[order], chosen), terminal[order], 1e-12)

    def test_no_hidden_randomness(self, case: Row) -> None:
        reward, context = case.make(), case.context(BATCH)
        x, state = normal(BATCH, *case.state, seed=1), torch.get_rng_state()
        assert torch.equal(reward.terminal(x, context), reward.terminal(x, context))
        assert torch.equal(state, torch.get_rng_state())
