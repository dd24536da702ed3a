"""Targets by hand, and the variance that knowing the noise takes away."""

import math

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    CtcontrolError,
    GaussianPolicy,
    LambdaReturnFit,
    Linear,
    MonteCarloFit,
    NoiseAwareFit,
    PinnedValue,
    TemporalDifferenceFit,
    TimeGrid,
    Trajectory,
    gradients_along,
    simulate,
    values_along,
)
from tests.helpers import assert_close, normal, seeded, slope
from tests.problems import ChainValue, GaussianDiffusion, LinearProblem, regulator, trajectory
from tests.tables import Network

K, k, STD = normal(2, 2, seed=1) / 2, normal(2, seed=2) / 2, torch.tensor(0.4, dtype=torch.float64)


def _value() -> PinnedValue:
    return PinnedValue(lambda t, x, c, mean: x.square().sum(1), Network(2), Linear(1.0))


def _path() -> Trajectory:
    return trajectory(TimeGrid.from_times([0.0, 0.2, 0.5, 1.0]), batch=3, discount=0.8)


def test_monte_carlo_target_is_the_return_to_go() -> None:
    path = _path()
    assert torch.equal(MonteCarloFit().targets(_value(), path), path.return_to_go())


def test_noise_aware_target_by_a_double_loop() -> None:
    path, value = _path(), _value()
    targets = NoiseAwareFit().targets(value, path)
    slopes = gradients_along(value, path, through_mean=False)
    times = path.grid.times.tolist()
    for j in range(3):
        for i in range(3):
            noise = sum(
                math.exp(-0.8 * (times[m] - times[j]))
                * float(slopes[m, i] @ path.innovations[m, i])
                for m in range(j, 3)
            )
            expected = float(path.return_to_go()[j, i]) - noise
            assert math.isclose(float(targets[j, i]), expected, rel_tol=1e-9)


def test_temporal_difference_target_by_hand() -> None:
    path, value = _path(), _value()
    targets, v = TemporalDifferenceFit().targets(value, path), values_along(value, path)
    for j, dt in enumerate(path.grid.lengths.tolist()):
        gain = path.rewards[j] * dt - 0.7 * path.penalties[j]
        assert_close(targets[j], gain + math.exp(-0.8 * dt) * v[j + 1])


@pytest.mark.parametrize("linear", [regulator(), GaussianDiffusion().control(0.5, 1.3, 0.4)])
def test_noise_aware_targets_lose_their_variance_as_the_value_becomes_exact(
    linear: LinearProblem,
) -> None:
    """Var(target − V) = O(Δt) with the exact value, and a constant for Monte-Carlo targets."""
    d = len(linear.k0)
    gain, offset = K[:d, :d] * 0.5, k[:d]
    sizes, known, blind = [20, 40, 80, 160], [], []
    for n in sizes:
        grid = TimeGrid.uniform(linear.horizon, n)
        std = torch.tensor(0.0, dtype=torch.float64)
        policy = GaussianPolicy(linear.mean(gain, offset))
        path = simulate(linear.problem, policy, grid, 2000, generator=seeded(3))
        value = ChainValue(grid, linear.values(grid, gain, offset, std))
        exact = values_along(value, path)[0]
        known.append(float((NoiseAwareFit().targets(value, path)[0] - exact).var()))
        blind.append(float((MonteCarloFit().targets(value, path)[0] - exact).var()))
    assert -1.4 < slope(sizes, known) < -0.8
    assert abs(slope(sizes, blind)) < 0.2
    assert known[-1] < 0.05 * blind[-1]


def test_the_new_value_is_not_in_its_own_target() -> None:
    """Targets are computed once, with the value before the fit."""
    path, value = _path(), _value()
    targets = NoiseAwareFit().targets(value, path)
    NoiseAwareFit().loss(value, path.transitions(target=targets)).backward()
    assert all(p.grad is not None for p in value.parameters())
    assert not targets.requires_grad


def test_the_recorded_mean_action_spares_a_second_evaluation() -> None:
    """Targets and loss hand it to the value, whose guess would otherwise call the policy."""
    path, given = _path(), []

    def guess(t: Tensor, x: Tensor, context: object, mean: Tensor | None) -> Tensor:
        given.append(mean)
        return x.sum(1)

    value = PinnedValue(guess, Network(2), Linear(1.0))
    for critic in (MonteCarloFit(), NoiseAwareFit(), TemporalDifferenceFit()):
        rows = path.transitions(target=critic.targets(value, path))
        critic.loss(value, rows)
    assert len(given) == 5
    assert all(mean is not None and torch.equal(mean, path.means.flatten(0, 1)) for mean in given)


def test_lambda_targets_by_a_double_loop() -> None:
    path, value = _path(), _value()
    v, times = values_along(value, path), path.grid.times.tolist()
    slopes = gradients_along(value, path, through_mean=False)
    plain = LambdaReturnFit(decay=1.3).targets(value, path)
    aware = NoiseAwareFit(decay=1.3).targets(value, path)
    for j in range(3):
        known, noise = torch.zeros(3).double(), torch.zeros(3).double()
        for m in range(j, 3):
            dt, fade = times[m + 1] - times[m], math.exp(-2.1 * (times[m] - times[j]))
            gain = path.rewards[m] * dt - 0.7 * path.penalties[m]
            known += fade * (gain + math.exp(-0.8 * dt) * v[m + 1] - v[m])
            noise += fade * (slopes[m] * path.innovations[m]).sum(1)
        assert_close(plain[j], v[j] + known)
        assert_close(aware[j], v[j] + known - noise)


def test_lambda_targets_lie_between_monte_carlo_and_temporal_differences() -> None:
    path, value = _path(), _value()
    ends = MonteCarloFit(), TemporalDifferenceFit()
    for decay, end in zip((0.0, 1e5), ends, strict=True):
        targets = LambdaReturnFit(decay=decay).targets(value, path)
        assert_close(targets, end.targets(value, path))
    # the formula of a decay does not jump at 0
    assert_close(
        NoiseAwareFit(decay=1e-9).targets(value, path), NoiseAwareFit().targets(value, path), 1e-7
    )


def test_a_bad_decay_is_named() -> None:
    for fit in (LambdaReturnFit, NoiseAwareFit):
        with pytest.raises(CtcontrolError, match=r"decay must be a finite number >= 0, got -0\.1"):
            fit(decay=-0.1)
