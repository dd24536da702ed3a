"""Performance differences, surrogates and regret along rollouts, against closed forms."""

import numpy as np
import pytest
import torch

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy, LQProblem
from tests.helpers import assert_close, seeded, slope
from tests.problems import GaussianDiffusion
from tests.tables import plant

GRID = ct.TimeGrid.uniform(1.0, 50)
GAIN = np.array([[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]])


def _policies(
    size: float = 1.0, std: float = 0.5
) -> tuple[LinearGaussianPolicy, LinearGaussianPolicy]:
    change = size * np.array([[0.3, -0.2, 0.1], [0.0, 0.2, -0.2]])
    old = LinearGaussianPolicy(GAIN, [0.2, -0.1], std=[0.5, 0.3])
    shift = [0.2 + 0.2 * size, -0.1 - 0.1 * size]
    return old, LinearGaussianPolicy(GAIN + change, shift, std=[std, 0.4])


def _rollout(lq: LQProblem, policy: ct.Policy, batch: int = 4000) -> ct.Trajectory:
    return ct.simulate(lq.problem(), policy, GRID, batch, generator=seeded(1))


@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_the_performance_difference_is_that_of_two_returns(temperature: float) -> None:
    """Along the *new* policy; along the old one it is the surrogate, which differs."""
    lq, (old, new) = plant(temperature=temperature), _policies(2.0)
    found = ct.performance_difference(lq.problem(), lq.value(old), _rollout(lq, new))
    exact = lq.performance_difference(old, new)
    assert found.n == 4000
    bias = 0.3 * float(GRID.lengths[0])
    assert abs(found.mean - exact) < 4.5 * found.stderr + bias
    assert found.stderr < 0.02
    assert abs(lq.surrogate_gain(old, new) - exact) > 4.5 * found.stderr + 2 * bias


@pytest.mark.parametrize("temperature", [0.0, 0.2])
def test_the_surrogate_is_the_same_along_the_old_policy(temperature: float) -> None:
    lq, (old, new) = plant(temperature=temperature), _policies(2.0)
    path = _rollout(lq, old)
    found = ct.surrogate(lq.problem(), lq.value(old), new, path)
    exact = lq.surrogate_gain(old, new)
    assert abs(found.mean - exact) < 4.5 * found.stderr + 0.3 * float(GRID.lengths[0])
    same = ct.surrogate(lq.problem(), lq.value(old), old, path)
    assert_close(torch.tensor(same.mean), 0.0, 1e-9)


def test_rates_that_drop_action_free_terms_are_wrong_here() -> None:
    lq, (old, new) = plant(), _policies(2.0)
    path, value = _rollout(lq, new), lq.value(old)
    exact = lq.performance_difference(old, new)
    centered = ct.ActionAdvantage()
    wrong = ct.performance_difference(lq.problem(), value, path, estimator=centered)
    assert abs(wrong.mean - exact) > 0.1


def test_the_remainder_of_the_surrogate_is_of_second_order() -> None:
    """Estimated on common noise: J(π′) − L halves twice when the change of the drift halves."""
    lq, sizes, gaps = plant(), [0.4, 0.2, 0.1], []
    for size in sizes:
        old, new = _policies(size, std=0.5)
        value = lq.value(old)
        along_new = ct.performance_difference(lq.problem(), value, _rollout(lq, new, 2000))
        along_old = ct.performance_difference(lq.problem(), value, _rollout(lq, old, 2000))
        gain = ct.surrogate(lq.problem(), value, new, _rollout(lq, old, 2000))
        gaps.append(along_new.mean - along_old.mean - gain.mean)
        exact = lq.performance_difference(old, new) - lq.surrogate_gain(old, new)
        assert abs(gaps[-1] - exact) < 0.05 * abs(exact) + 0.03 * size
    exact = [
        lq.performance_difference(*_policies(s)) - lq.surrogate_gain(*_policies(s)) for s in sizes
    ]
    assert abs(slope(sizes, exact) - 2) < 0.15


def test_the_clipped_surrogate_is_pessimistic() -> None:
    """Never above the surrogate, and equal to it at the old policy."""
    lq, (old, new) = plant(), _policies(0.5, std=0.5)
    path, value = _rollout(lq, old, 5000), lq.value(old)
    rates = ct.ItoAdvantage()
    gain = ct.surrogate(lq.problem(), value, new, path)
    clipped = [
        ct.clipped_surrogate(lq.problem(), value, new, path, clip=clip, estimator=rates)
        for clip in (0.05, 0.3, 1e6)
    ]
    assert clipped[0].mean < clipped[1].mean < clipped[2].mean
    assert clipped[1].mean < gain.mean - 4.5 * clipped[1].stderr
    assert abs(clipped[2].mean - gain.mean) < 4.5 * clipped[2].stderr + 0.01
    same = ct.clipped_surrogate(lq.problem(), value, old, path, clip=0.2, estimator=rates)
    none = ct.performance_difference(lq.problem(), value, path)
    assert_close(torch.tensor(same.mean), none.mean, 1e-9)


def test_regret_is_kl_to_the_optimum() -> None:
    """Golden: J* − J(θ) = 0.107904679 for μ = s_pre + 0.3 − 0.2x, r = 1.3y − 0.4y², κ = 0.5."""
    linear, one = GaussianDiffusion().control(0.5, 1.3, 0.4), torch.ones(1, 1).double()
    diffusion = GaussianDiffusion()
    variance = 1 / (1 / 0.5 + 2 * 0.4 / 0.5)
    mean = variance * (0.7 / 0.5 + 1.3 / 0.5)
    tilted = GaussianDiffusion(mean=mean, variance=variance)

    def optimal(t: torch.Tensor, x: torch.Tensor, context: object) -> torch.Tensor:
        return -(x - (diffusion.alpha(t) * mean)[:, None]) / tilted.marginal(t)[:, None]

    policy = ct.GaussianPolicy(linear.mean(0.2 * one, 0.3 * one[0]))
    path = ct.simulate(
        linear.problem, policy, ct.TimeGrid.uniform(1.0, 200), 4000, generator=seeded(2)
    )
    found = ct.regret(linear.problem, ct.GaussianPolicy(optimal), path)
    assert abs(found.mean - 0.107904679) < 4.5 * found.stderr + 0.003
    assert found.stderr < 0.003
    at_best = ct.simulate(
        linear.problem, ct.GaussianPolicy(optimal), path.grid, 10, generator=seeded(3)
    )
    assert ct.regret(linear.problem, ct.GaussianPolicy(optimal), at_best).mean == 0


def test_regret_needs_a_path_kl() -> None:
    lq, (old, new) = plant(), _policies()
    with pytest.raises(ct.CtcontrolError, match="needs a PathKL regularizer, got NoneType"):
        ct.regret(lq.problem(), new, _rollout(lq, old, 2))
