"""What a policy's network finds besides the action: kept by the rollout, read by the critic."""

import pytest
import torch
from torch import Tensor, nn

import ctcontrol as ct
from ctcontrol.noise import TILE
from tests.helpers import assert_close, normal, seeded
from tests.problems import regulator
from tests.tables.functions import smooth_reward

GRID = ct.TimeGrid.from_times([0.0, 0.3, 1.2])


class Telling(ct.NotingMean):
    """A linear mean that tells (t, |x|², …), and counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(normal(2, 2, seed=1) / 2)
        self.asked = 0

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        self.asked += 1
        return x @ self.gain

    def noted(self, t: Tensor, x: Tensor, context: object) -> tuple[Tensor, Tensor]:
        return self(t, x, context), torch.stack([t, x.square().sum(1)], 1)


class Head(ct.InformedResidual):
    """Linear in the notes; finds them out where they are not given."""

    def __init__(self, source: Telling) -> None:
        super().__init__()
        self._source = (source,)
        self.slopes = nn.Parameter(torch.tensor([0.3, -0.7], dtype=torch.float64))

    def forward(
        self,
        t: Tensor,
        x: Tensor,
        context: object,
        mean: Tensor | None = None,
        notes: Tensor | None = None,
    ) -> Tensor:
        found = self._source[0].noted(t, x, context)[1] if notes is None else notes
        return found @ self.slopes


def head(source: Telling) -> ct.PinnedValue:
    guess = lambda t, x, c, mean: smooth_reward(x)
    return ct.PinnedValue(guess, Head(source), ct.Linear(1.2))


def rollout(policy: ct.Policy, batch: int = 5) -> ct.Trajectory:
    return ct.simulate(regulator().problem, policy, GRID, batch, generator=seeded(3))


@pytest.mark.parametrize("std", [0.0, 0.4])
def test_a_rollout_keeps_the_notes_of_its_steps(std: float) -> None:
    path = rollout(ct.GaussianPolicy(Telling(), std))
    assert path.notes is not None
    for k in range(2):
        by_hand = torch.stack([path.times(k), path.states[k].square().sum(1)], 1)
        assert_close(path.notes[k], by_hand)
    rows = path.transitions()
    assert rows.notes is not None
    assert torch.equal(rows.notes[7], path.notes[1, 2])
    chosen = rows[torch.tensor([7])].notes
    assert chosen is not None
    assert torch.equal(chosen, path.notes[1, 2:3])


def test_other_means_leave_no_notes() -> None:
    assert rollout(ct.GaussianPolicy(lambda t, x, c: x, 0.4)).notes is None


def test_a_policy_that_absorbs_noise_tells_them_too() -> None:
    problem = regulator().problem
    assert isinstance(problem.sde, ct.ElementwiseActionSDE)
    policy = ct.NoiseAbsorbingPolicy(Telling(), problem.sde, ct.EulerMaruyama(), GRID)
    path = ct.simulate(problem, policy, GRID, 4, generator=seeded(3))
    law, notes = policy.noted(path.times(1), path.states[1], None)
    assert path.notes is not None
    assert notes is not None
    assert_close(path.notes[1], notes)
    assert torch.equal(law.mean, policy.dist(path.times(1), path.states[1], None).mean)
    assert torch.equal(law.std, policy.dist(path.times(1), path.states[1], None).std)


def test_tiles_are_joined_with_their_notes() -> None:
    batch = 2 * TILE + 1
    path = rollout(ct.GaussianPolicy(Telling(), 0.4), batch)
    assert path.notes is not None
    assert path.notes.shape == (2, batch, 2)
    assert_close(path.notes[1, :, 1], path.states[1].square().sum(1))


def test_parts_of_a_batch_are_joined_with_their_notes() -> None:
    policy = ct.GaussianPolicy(Telling(), 0.4)
    whole = rollout(policy)
    for size in (1, 2):
        parts = ct.simulate(
            regulator().problem, policy, GRID, 5, generator=seeded(3), micro_batch=size
        )
        assert whole.notes is not None
        assert parts.notes is not None
        assert_close(parts.notes, whole.notes)


def test_values_along_a_rollout_ask_the_network_no_more() -> None:
    mean = Telling()
    path = rollout(ct.GaussianPolicy(mean, 0.4))
    value, before = head(mean), mean.asked
    values = ct.values_along(value, path)
    assert mean.asked == before
    rows = path.transitions()
    assert_close(values[:-1].flatten(), value.at(rows.t0, rows.x, None).detach())
    assert mean.asked > before


def test_notes_count_as_constants_unless_the_gradient_goes_through_the_mean() -> None:
    mean = Telling()
    path = rollout(ct.GaussianPolicy(mean, 0.4))
    still = ct.gradients_along(head(mean), path, through_mean=False)
    whole = ct.gradients_along(head(mean), path, through_mean=True)
    c_out = (1 - path.grid.times[:-1] / 1.2)[:, None, None]
    assert_close(whole - still, c_out * -0.7 * 2 * path.states[:-1])


@pytest.mark.parametrize(
    "critic", [ct.MonteCarloFit(), ct.NoiseAwareFit(), ct.TemporalDifferenceFit(), ct.SarsaFit()]
)
def test_a_critic_fits_the_notes_of_the_rollout(critic: ct.Critic) -> None:
    """Also when the policy has changed since: what was seen then goes with what came of it."""
    mean = Telling()
    path = rollout(ct.GaussianPolicy(mean, 0.4))
    value = head(mean)
    before = mean.asked
    rows = critic.rows(value, path)
    loss = critic.loss(value, rows)
    assert mean.asked == before
    assert_close(loss, _by_hand(rows))


def _by_hand(rows: ct.Transitions) -> Tensor:
    assert rows.notes is not None
    assert rows.target is not None
    u = 1 - rows.t0 / 1.2
    slopes = torch.tensor([0.3, -0.7], dtype=torch.float64)
    guess = (1 - u) * smooth_reward(rows.x) + u * (rows.notes @ slopes)
    return 0.5 * (guess - rows.target).square().mean()
