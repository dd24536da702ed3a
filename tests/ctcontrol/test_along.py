"""Values and gradients along a trajectory, however many rows are evaluated together."""

import pytest
import torch

from ctcontrol import Scalar, State, Time, TimeGrid, Value, gradients_along, values_along
from tests.helpers import assert_close
from tests.problems import trajectory


class Probe(Value):
    """|x|² t + context + the mean's first coordinate, which stands for −x₀ when not given."""

    def at(
        self, t: Time, x: State, context: torch.Tensor, mean: torch.Tensor | None = None
    ) -> Scalar:
        first = -x[:, 0] if mean is None else mean[:, 0]
        return t * x.square().sum(1) + context + first


@pytest.fixture(params=[1, 7, 10_000])
def rows_together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctcontrol._division.ROWS", request.param)


@pytest.mark.usefixtures("rows_together")
def test_values_end_in_the_terminal_reward() -> None:
    path = trajectory(TimeGrid.from_times([0.0, 0.3, 1.0]), batch=4)
    values = values_along(Probe(), path)
    assert values.shape == (3, 4)
    for k in range(2):
        x = path.states[k]
        by_hand = path.times(k) * x.square().sum(1) + path.context + path.means[k, :, 0]
        assert_close(values[k], by_hand)
    assert torch.equal(values[-1], path.terminal)


@pytest.mark.usefixtures("rows_together")
@pytest.mark.parametrize("through_mean", [True, False])
def test_gradients_may_go_through_the_mean_or_not(through_mean: bool) -> None:
    path = trajectory(TimeGrid.from_times([0.0, 0.3, 1.0]), batch=4)
    gradients = gradients_along(Probe(), path, through_mean=through_mean)
    by_hand = 2 * path.grid.times[:-1, None, None] * path.states[:-1]
    if through_mean:
        by_hand = by_hand - torch.tensor([1.0, 0.0]).double()
    assert_close(gradients, by_hand)
    assert not gradients.requires_grad
