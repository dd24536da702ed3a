"""What a rollout leaves: returns against a naive double loop, rows against their indices."""

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ctcontrol import CtcontrolError, TimeGrid
from ctcontrol._trajectory import discounted_to_go
from tests.helpers import assert_close, normal, seeded
from tests.problems import trajectory
from tests.strategies import grids


@given(grids(), st.floats(0.0, 3.0))
def test_return_to_go_is_the_discounted_sum(grid: TimeGrid, discount: float) -> None:
    path = trajectory(grid, discount=discount)
    to_go, times = path.return_to_go(), grid.times.tolist()
    for k in range(grid.steps):
        for i in range(path.batch):
            total = math.exp(-discount * (times[-1] - times[k])) * float(path.terminal[i])
            for j in range(k, grid.steps):
                gain = float(path.rewards[j, i]) * (times[j + 1] - times[j])
                gain -= 0.7 * float(path.penalties[j, i])
                total += math.exp(-discount * (times[j] - times[k])) * gain
            assert math.isclose(float(to_go[k, i]), total, rel_tol=1e-9, abs_tol=1e-9)
    assert_close(path.returns(), to_go[0])
    assert_close(path.divergence(), path.penalties.sum(0))


def test_return_to_go_satisfies_its_recursion_in_single_precision_over_long_horizons() -> None:
    """e^{−ρT} = e^{−60}: neither underflow nor lost digits at the end."""
    grid = TimeGrid.uniform(100.0, 500)
    increments, last = normal(500, 4, dtype=torch.float32), torch.ones(4)
    to_go = discounted_to_go(increments, last, grid, 0.6).double()
    decay = math.exp(-0.6 * 0.2)
    following = torch.cat([to_go[1:], last[None]])
    torch.testing.assert_close(to_go, increments.double() + decay * following, rtol=1e-5, atol=1e-5)


def test_extreme_discounts_stay_finite() -> None:
    grid = TimeGrid.uniform(100.0, 50)
    to_go = discounted_to_go(torch.ones(50, 2), torch.ones(2), grid, 20.0)
    assert_close(to_go[:-1], 1.0, 1e-5)
    assert bool(torch.isfinite(to_go).all())


def test_transitions_are_ordered_step_by_step() -> None:
    path = trajectory(TimeGrid.from_times([0.0, 0.1, 0.5, 1.0]), batch=4, discount=0.3)
    signal, target = normal(3, 4, 2, seed=9), normal(3, 4, seed=10)
    rows = path.transitions(signal=signal, target=target)
    assert len(rows) == 12
    assert rows.steps == 3
    assert rows.anchor is not None
    assert rows.signal is not None
    assert rows.target is not None
    assert path.anchors is not None
    for k in range(3):
        for i in range(4):
            r = k * 4 + i
            assert float(rows.t0[r]) == float(path.grid.times[k])
            assert float(rows.t1[r]) == float(path.grid.times[k + 1])
            assert math.isclose(float(rows.weight[r]), math.exp(-0.3 * float(rows.t0[r])))
            assert torch.equal(rows.x[r], path.states[k, i])
            assert torch.equal(rows.action[r], path.actions[k, i])
            assert torch.equal(rows.law.mean[r], path.means[k, i])
            assert torch.equal(rows.law.std[r], path.stds[k, i])
            assert torch.equal(rows.anchor[r], path.anchors[k, i])
            assert torch.equal(rows.signal[r], signal[k, i])
            assert torch.equal(rows.target[r], target[k, i])
            assert int(rows.context[r]) == 10 * i


def test_selecting_rows_selects_everything() -> None:
    path = trajectory(TimeGrid.uniform(1.0, 3), batch=4)
    rows = path.transitions(signal=normal(3, 4), target=normal(3, 4), outcome=True)
    chosen = torch.tensor([7, 7, 0])
    part = rows[chosen]
    assert len(part) == 3
    assert part.steps == rows.steps
    for f in fields(rows):
        if f.name == "law":
            assert torch.equal(part.law.mean, rows.law.mean[chosen])
            assert torch.equal(part.law.std, rows.law.std[chosen])
        elif f.name == "outcome":
            assert part.outcome is not None
            assert rows.outcome is not None
            for g in fields(part.outcome):
                mine, all_rows = getattr(part.outcome, g.name), getattr(rows.outcome, g.name)
                assert torch.equal(mine.nan_to_num(-7), all_rows[chosen].nan_to_num(-7)), g.name
        elif f.name not in ("steps", "division"):
            assert torch.equal(getattr(part, f.name), getattr(rows, f.name)[chosen]), f.name


def test_an_outcome_says_where_each_step_led() -> None:
    path = trajectory(TimeGrid.from_times([0.0, 0.2, 1.0]), batch=3, discount=0.5)
    rows = path.transitions(outcome=True)
    assert rows.outcome is not None
    for k, dt in enumerate((0.2, 0.8)):
        for i in range(3):
            r, after = 3 * k + i, rows.outcome
            assert torch.equal(after.x[r], path.states[k + 1, i])
            assert torch.equal(after.innovation[r], path.innovations[k, i])
            assert_close(after.gain[r], path.rewards[k, i] * dt - 0.7 * path.penalties[k, i])
            assert_close(after.shrink[r], math.exp(-0.5 * dt))
            if k == 1:
                assert torch.equal(after.terminal[r], path.terminal[i])
            else:
                assert bool(after.terminal[r].isnan())


def test_what_was_not_recorded_stays_missing() -> None:
    path = replace(trajectory(TimeGrid.uniform(1.0, 3)), anchors=None, context=None)
    part = path.transitions()[torch.tensor([0, 2])]
    assert part.anchor is part.signal is part.target is part.context is part.outcome is None


@given(st.integers(1, 6), st.integers(1, 7), st.integers(1, 50))
def test_minibatches_cover_every_row_at_most_once(steps: int, batch: int, size: int) -> None:
    path = replace(trajectory(TimeGrid.uniform(1.0, steps), batch), context=None)
    numbers = torch.arange(steps * batch).reshape(steps, batch)
    rows = path.transitions(signal=numbers)
    parts = list(rows.minibatches(size, seeded(1)))
    seen = torch.cat([p.signal for p in parts if p.signal is not None])
    assert len(seen.unique()) == len(seen)
    if size >= len(rows):
        assert [len(p) for p in parts] == [len(rows)]
    else:
        assert [len(p) for p in parts] == [size] * (len(rows) // size)


def test_minibatches_are_shuffled_by_their_generator_alone() -> None:
    rows = trajectory(TimeGrid.uniform(1.0, 6), 5).transitions()
    state = torch.get_rng_state()
    orders = [[p.t0.tolist() for p in rows.minibatches(4, seeded(s))] for s in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("share", "expected"), [(1.0, 30), (0.5, 15), (0.1, 3), (1e-6, 1)])
def test_share_takes_a_random_part(share: float, expected: int) -> None:
    path = trajectory(TimeGrid.uniform(1.0, 6), 5)
    rows = path.transitions(signal=torch.arange(30).reshape(6, 5))
    parts = [p.signal for p in rows.minibatches(1, seeded(1), share=share)]
    seen = torch.cat([p for p in parts if p is not None])
    assert len(seen) == len(seen.unique()) == expected
    assert [len(p) for p in rows.minibatches(10_000, seeded(1), share=share)] == [expected]
    counts = torch.zeros(30)
    for seed in range(300):
        for part in rows.minibatches(1, seeded(seed), share=share):
            assert part.signal is not None
            counts[part.signal] += 1
    frequency = expected / 30
    spread = 5 * math.sqrt(frequency * (1 - frequency) / 300) + 1e-9
    assert float((counts / 300 - frequency).abs().max()) <= spread


def test_bad_minibatches_are_named() -> None:
    rows = trajectory(TimeGrid.uniform(1.0, 2)).transitions()
    with pytest.raises(CtcontrolError, match="minibatch must be a whole number >= 1, got 0"):
        next(rows.minibatches(0, seeded()))
    with pytest.raises(CtcontrolError, match=r"share must lie in \(0, 1\], got 2"):
        next(rows.minibatches(1, seeded(), share=2.0))


def test_views_of_the_whole() -> None:
    path = trajectory(TimeGrid.from_times([0.0, 0.25, 1.0]), batch=3)
    assert (path.steps, path.batch) == (2, 3)
    assert torch.equal(path.final, path.states[-1])
    assert path.times(1).tolist() == [0.25] * 3
    assert path.lengths.tolist() == [[0.25], [0.75]]
    assert_close(path.gains, path.rewards * path.lengths - 0.7 * path.penalties)
