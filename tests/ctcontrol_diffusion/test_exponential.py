"""Exponential integrators of the reverse SDE, against Gaussian data where all is known."""

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.solvers import DDIM, ExponentialNoiseVP, ExponentialVP
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.helpers import assert_close, normal, slope

T0 = torch.tensor([0.0, 0.1, 0.31, 0.7], dtype=torch.float64)
T1 = torch.tensor([0.05, 0.4, 0.32, 0.97], dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 3, 17])
@pytest.mark.parametrize("variance", [0.0, 0.3, 1.0, 4.0])
def test_gaussian_data_of_the_variance_it_knows_are_exact(steps: int, variance: float) -> None:
    """A linear score: mean and variance to rounding, in one step too. DDIM(1) lacks variance."""
    model = GaussianModel(mean=0.3, variance=variance, floor=0.02)
    last = torch.tensor([model.schedule.horizon], dtype=torch.float64)
    mean, reached = model.end(ExponentialVP(variance), steps)
    assert mean == pytest.approx(0.3 * float(model.schedule.alpha(last)), abs=1e-12)
    assert reached == pytest.approx(float(model.spread(last)), abs=1e-12)
    if variance > 0:
        assert model.end(DDIM(1.0), steps)[1] < reached - 1e-3


def test_without_variance_it_is_the_ancestral_step() -> None:
    schedule = GaussianModel(floor=0.02).schedule
    for found, expected in zip(
        ExponentialVP().coefficients(schedule, T0, T1),
        DDIM(1.0).coefficients(schedule, T0, T1),
        strict=True,
    ):
        assert_close(found, expected, 1e-11)


def test_the_noise_form_in_log_snr() -> None:
    """x' = (α'/α)x − 2σ'(eʰ − 1)ε + σ'√(e²ʰ − 1)ξ, h = λ' − λ, λ = log(α/σ) (2211.01095)."""
    schedule, x = GaussianModel(floor=0.02).schedule, normal(4)
    a, s = ([f(t) for t in (T0, T1)] for f in (schedule.alpha, schedule.sigma))
    h = (a[1] / s[1] * s[0] / a[0]).log()
    decay, gain, std = ExponentialNoiseVP().coefficients(schedule, T0, T1)
    assert_close(decay * x, a[1] / a[0] * x)
    assert_close(gain * (-x / s[0]), -2 * s[1] * torch.expm1(h) * x, 1e-9)
    assert_close(std, s[1] * torch.expm1(2 * h).sqrt(), 1e-9)


@pytest.mark.parametrize("solver", [ExponentialVP(), ExponentialVP(2.0), ExponentialNoiseVP()])
def test_weak_order_one_elsewhere(solver: ExponentialVP | ExponentialNoiseVP) -> None:
    model, counts = GaussianModel(mean=0.3, variance=0.3, floor=0.02), [50, 100, 200]
    last = torch.tensor([model.schedule.horizon], dtype=torch.float64)
    errors = [model.end(solver, n)[1] - float(model.spread(last)) for n in counts]
    assert slope(counts, errors) == pytest.approx(-1, abs=0.15)


@pytest.mark.parametrize("solver", [ExponentialVP(0.5), ExponentialNoiseVP()])
def test_step_kl_in_closed_form(solver: ExponentialVP | ExponentialNoiseVP) -> None:
    """½(Δmean/std)², and it tends to ½βΔ|a − a′|² in short steps."""
    model, x = GaussianModel(floor=0.02), normal(4, 2)
    a, b = normal(4, 2, seed=1), normal(4, 2, seed=2)
    gap = solver.mean(model.sde, T0, T1, x, a, None) - solver.mean(model.sde, T0, T1, x, b, None)
    unit = (T1 - T0).sqrt()[:, None] * torch.ones_like(x)
    std = solver.noise(model.sde, T0, T1, x, a, unit)
    kl = solver.step_kl(model.sde, T0, T1, x, a, b, None)
    assert_close(kl, 0.5 * (gap / std).square().sum(1), 1e-9)
    short = T0 + 1e-5
    rate = solver.step_kl(model.sde, T0, short, x, a, b, None) / 1e-5
    expected = 0.5 * model.schedule.beta(T0) * (a - b).square().sum(1)
    torch.testing.assert_close(rate, expected, rtol=2e-2, atol=1e-3)


def test_a_variance_is_not_negative() -> None:
    with pytest.raises(CtcontrolError, match="data_variance must be"):
        ExponentialVP(-0.1)
