"""The clipped surrogate, by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    ContinuousPPO,
    CtcontrolError,
    EulerMaruyama,
    Gaussian,
    GaussianPolicy,
    MonteCarloAdvantage,
    NoiseAbsorbingPolicy,
    Standardize,
    TimeGrid,
    Transitions,
    simulate,
)
from tests.helpers import assert_close, normal, seeded
from tests.problems import GaussianDiffusion, regulator, trajectory

SOLVER = EulerMaruyama()
PROBLEM = regulator(discount=0.0).problem
STD = 0.5


def _rows(
    ratios: Tensor, signal: Tensor, dimensions: int = 1
) -> tuple[GaussianPolicy, Transitions]:
    """Rows whose ratio under the returned policy is what is asked for, one by one.

    New mean m, old mean −m, action a: log ratio = 2am/std², so a = std² log ratio/(2m).
    """
    n, m = len(ratios), 0.2
    zeros = torch.zeros(n, dimensions, dtype=torch.float64)
    action = STD**2 * ratios.log() / (2 * m * dimensions)
    policy = GaussianPolicy(_Constant(m), STD)
    rows = Transitions(
        t0=torch.linspace(0, 0.9, n).double(),
        t1=torch.linspace(0, 0.9, n).double() + torch.linspace(0.1, 0.3, n).double(),
        weight=torch.linspace(1, 0.5, n).double(),
        x=zeros,
        action=action[:, None].expand(n, dimensions),
        law=Gaussian(zeros - m, zeros[:, 0] + STD),
        anchor=None,
        context=None,
        steps=7,
        signal=signal,
    )
    return policy, rows


class _Constant(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return self.value + 0 * x


RATIOS = torch.tensor([1.0, 1.1, 1.5, 1.5, 0.5, 0.5, 0.9], dtype=torch.float64)
SIGNAL = torch.tensor([2.0, -1.0, 3.0, -3.0, 2.0, -2.0, 1.0]).double()


def test_value_of_the_surrogate() -> None:
    """min(ϱA, clip(ϱ)A): 1.5·3 → 1.2·3, 1.5·(−3) stays, 0.5·2 stays, 0.5·(−2) → 0.8·(−2)."""
    policy, rows = _rows(RATIOS, SIGNAL)
    result = ContinuousPPO(clip=0.2).loss(PROBLEM, SOLVER, policy, rows)
    gain = torch.tensor([2.0, -1.1, 3.6, -4.5, 1.0, -1.6, 0.9], dtype=torch.float64)
    gain = rows.weight * (rows.t1 - rows.t0) * gain
    assert_close(result.loss, -7 * gain.mean())
    assert_close(result.log_ratio, RATIOS.log())
    assert result.clip_fraction == pytest.approx(4 / 7)


@pytest.mark.parametrize("index", range(7))
def test_only_improvement_beyond_the_range_has_no_gradient(index: int) -> None:
    """Clipped where it would gain more, never where it has gone wrong."""
    one = slice(index, index + 1)
    policy, rows = _rows(RATIOS[one], SIGNAL[one])
    ContinuousPPO(clip=0.2).loss(PROBLEM, SOLVER, policy, rows).loss.backward()
    slope = next(policy.parameters()).grad
    assert slope is not None
    clipped = (float(RATIOS[index]), float(SIGNAL[index])) in {(1.5, 3.0), (0.5, -2.0)}
    assert bool(slope == 0) is clipped
    if not clipped:
        score = (rows.action[:, 0] - 0.2) / STD**2
        length = float(rows.weight * (rows.t1 - rows.t0))
        assert_close(slope, -7 * length * RATIOS[index] * SIGNAL[index] * score[0])


def test_the_scale_of_the_log_ratio() -> None:
    """1/d makes it the mean over coordinates that some codes use."""
    policy, rows = _rows(RATIOS, SIGNAL, dimensions=4)
    full = ContinuousPPO().loss(PROBLEM, SOLVER, policy, rows)
    mean = ContinuousPPO(log_ratio_scale=0.25).loss(PROBLEM, SOLVER, policy, rows)
    assert_close(full.log_ratio, RATIOS.log())
    assert_close(mean.log_ratio, RATIOS.log() / 4)


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_the_scale_does_not_weigh_reward_against_penalty(scale: float) -> None:
    """Before the first update the gradient is that of J, the direct penalty included."""
    linear = regulator(kl_weight=0.7)
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.4)
    path = simulate(linear.problem, policy, TimeGrid.uniform(1.2, 2), 5, generator=seeded(1))
    rows = path.transitions(signal=normal(2, 5))
    grads: list[Tensor] = []
    for algorithm in (ContinuousPPO(clip=None), ContinuousPPO(clip=0.2, log_ratio_scale=scale)):
        policy.zero_grad()
        algorithm.loss(linear.problem, SOLVER, policy, rows).loss.backward()
        grads.append(
            torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
        )
    assert_close(grads[0], grads[1])


def test_the_direct_penalty_is_in_the_loss() -> None:
    """Without any advantage, the loss is κ times the discounted path KL of the new policy."""
    linear = regulator(kl_weight=0.7)
    grid = TimeGrid.from_times([0.0, 0.3, 1.2])
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(1))
    rows = path.transitions(signal=torch.zeros(2, 5).double())
    result = ContinuousPPO().loss(linear.problem, SOLVER, policy, rows)
    weights = torch.exp(-0.4 * grid.times[:-1])[:, None]
    assert_close(result.loss, 0.7 * (weights * path.penalties).sum(0).mean())
    assert result.loss.requires_grad


def test_the_transform_sees_the_rates() -> None:
    linear, grid = regulator(), TimeGrid.from_times([0.0, 0.3, 1.2])
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(2))
    advantage = MonteCarloAdvantage()
    plain = ContinuousPPO(advantage=advantage).signal(linear.problem, SOLVER, None, path)
    scaled = ContinuousPPO(advantage=advantage, transform=Standardize())
    assert_close(scaled.signal(linear.problem, SOLVER, None, path), plain / plain.std())


def test_late_steps_earn_nothing_and_pay_all_the_same() -> None:
    """A step that begins at the bound itself is late, whatever rounding makes of it."""
    linear, grid = regulator(kl_weight=0.7), TimeGrid.uniform(1.2, 10)
    policy = GaussianPolicy(linear.mean(normal(2, 2), normal(2)), 0.4)
    path = simulate(linear.problem, policy, grid, 5, generator=seeded(2))
    advantage = MonteCarloAdvantage()
    plain = ContinuousPPO(advantage=advantage).signal(linear.problem, SOLVER, None, path)
    for share, left in ((0.9, 9), (0.71, 8), (0.3, 3), (1.0, 10)):
        early = ContinuousPPO(advantage=advantage, credited=share)
        signal = early.signal(linear.problem, SOLVER, None, path)
        assert torch.equal(signal[:left], plain[:left])
        assert bool((signal[left:] == 0).all())
        rows = path.transitions(signal=torch.zeros_like(signal))
        paid = early.loss(linear.problem, SOLVER, policy, rows).loss
        assert_close(paid, ContinuousPPO().loss(linear.problem, SOLVER, policy, rows).loss)
        assert float(paid.detach()) > 0


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1, float("nan")])
def test_bad_shares_of_credit_are_named(share: float) -> None:
    with pytest.raises(CtcontrolError, match=r"credited must lie in \(0, 1\], got"):
        ContinuousPPO(credited=share)


def test_images_in_single_precision_start_at_ratio_one() -> None:
    """16,384 coordinates and the small std of a fine grid: the log ratio is 0, not noise."""
    linear, grid = GaussianDiffusion().control(0.0), TimeGrid.uniform(1.0, 50)
    mean = linear.mean(torch.tensor([[0.2]]), torch.tensor([0.1])).float()
    policy = NoiseAbsorbingPolicy(_EachPixel(mean), linear.sde, SOLVER, grid)
    x = normal(3, 1, 128, 128, seed=3, dtype=torch.float32)
    t = torch.tensor([0.0, 0.5, 0.98])
    law = policy.dist(t, x, None)
    rows = replace(
        trajectory(TimeGrid.uniform(1.0, 1), 3).transitions(signal=torch.ones(1, 3)),
        t0=t,
        t1=t + 0.02,
        x=x,
        law=Gaussian(law.mean.detach(), law.std),
        action=law.sample(seeded(4)).detach(),
        weight=torch.ones(3),
        anchor=None,
    )
    problem = replace(linear.problem, regularizer=None)
    result = ContinuousPPO(advantage=MonteCarloAdvantage()).loss(problem, SOLVER, policy, rows)
    assert_close(result.log_ratio, 0.0, 1e-4)
    assert result.clip_fraction == 0.0


class _EachPixel(torch.nn.Module):
    def __init__(self, mean: torch.nn.Module) -> None:
        super().__init__()
        self.inner = mean

    def forward(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        pixels = math.prod(x.shape[1:])
        flat = self.inner(t.repeat_interleave(pixels), x.reshape(-1, 1), context)
        return flat.reshape(x.shape).to(x.dtype)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"clip": 0.0}, "clip must be a finite number > 0, got 0"),
        ({"log_ratio_scale": 0.0}, "log_ratio_scale must be a finite number > 0, got 0"),
    ],
)
def test_bad_numbers_are_named(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(CtcontrolError, match=says):
        ContinuousPPO(**settings)


def test_a_policy_without_exploration_is_refused() -> None:
    linear, grid = regulator(), TimeGrid.uniform(1.2, 2)
    path = simulate(
        linear.problem, GaussianPolicy(lambda t, x, c: -x), grid, 3, generator=seeded(5)
    )
    says = "std 0 and so has no likelihood ratio; give it an exploration std > 0, or use Pathwise"
    with pytest.raises(CtcontrolError, match=says):
        ContinuousPPO().signal(linear.problem, SOLVER, None, path)
