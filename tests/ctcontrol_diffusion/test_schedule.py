import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol.exact.tilt import VariancePreserving
from ctcontrol_diffusion.schedule import NoiseSchedule
from tests.helpers import assert_close

N = 1000
SCHEDULERS: dict[str, Any] = {
    "DDPM/linear": DDPMScheduler(N, beta_schedule="linear"),
    "DDPM/scaled-linear": DDPMScheduler(
        N, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ),
    "DDIM/squared-cosine": DDIMScheduler(N, beta_schedule="squaredcos_cap_v2"),
}
over_schedulers = pytest.mark.parametrize("name", SCHEDULERS)


def schedule(name: str, floor: float = 0.02) -> NoiseSchedule:
    return NoiseSchedule.from_diffusers(SCHEDULERS[name], floor)


def nodes(dtype: torch.dtype = torch.float64) -> Tensor:
    """Control times of the discrete times 1 … n."""
    return (1 - torch.arange(1, N + 1, dtype=torch.float64) / N).to(dtype)


def smooth(floor: float = 0.0, entries: int = 2000) -> NoiseSchedule:
    """A fine table of β_s = 0.1 + 7.9 s."""
    exact = VariancePreserving(0.1, 8.0)
    s = torch.arange(1, entries + 1, dtype=torch.float64) / entries
    return NoiseSchedule.from_alphas_cumprod((-exact.integral(s)).exp(), floor)


@over_schedulers
def test_the_nodes_are_those_of_the_table(name: str) -> None:
    made, table = schedule(name), SCHEDULERS[name].alphas_cumprod.double()
    assert_close(made.alpha(nodes()) ** 2, table, 1e-12)
    assert_close(made.variance(nodes()), 1 - table, 1e-12)
    assert_close(made.network_time(nodes()), torch.arange(N), 1e-9)


@over_schedulers
def test_shares_of_signal_and_noise(name: str) -> None:
    made, t = schedule(name), torch.linspace(0, 1, 1013, dtype=torch.float64)
    assert_close(made.alpha(t) ** 2 + made.variance(t), 1.0, 1e-14)
    assert_close(made.sigma(t) ** 2, made.variance(t), 1e-14)
    assert bool((made.alpha(t).diff() > 0).all())
    assert bool((made.sigma(t).diff() < 0).all())
    assert bool((made.network_time(t).diff() <= 0).all())


@over_schedulers
def test_control_time_runs_from_noise_to_data(name: str) -> None:
    """Read at s = t instead of s = 1 − t, every one of these is the other way round."""
    made, ends = schedule(name), torch.tensor([0.0, 1.0], dtype=torch.float64)
    table = SCHEDULERS[name].alphas_cumprod.double()
    assert_close(made.alpha(ends) ** 2, torch.stack([table[-1], torch.tensor(1.0)]), 1e-12)
    assert made.variance(ends).tolist()[1] == 0
    assert made.network_time(ends).tolist() == [N - 1, 0]
    early, late = made.beta(torch.tensor([0.1, 0.9], dtype=torch.float64))
    assert early > late


@over_schedulers
def test_beta_is_the_rate_of_the_signal(name: str) -> None:
    """β = −d log ᾱ/ds = d log ᾱ/dt inside the pieces of the table."""
    made = schedule(name)
    t = nodes()[:: N // 50] + 0.37 / N
    up, down = ((2 * made.alpha(t + h).log()) for h in (1e-6, -1e-6))
    torch.testing.assert_close((up - down) / 2e-6, made.beta(t), rtol=1e-6, atol=0)


@over_schedulers
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_rate_at_a_node_is_that_of_the_step_from_there(name: str, dtype: torch.dtype) -> None:
    """1 − k/n is seldom a number of the computer; the rounding must not pick the next piece."""
    made = schedule(name)
    steps = -N * made.log_alpha_bar.diff()
    torch.testing.assert_close(made.beta(nodes(dtype)).double(), steps, rtol=1e-6, atol=0)


def test_a_fine_table_is_the_continuous_process() -> None:
    exact, made = VariancePreserving(0.1, 8.0), smooth()
    t = torch.tensor([0.0, 0.1234, 0.5, 0.87, 0.99], dtype=torch.float64)
    integral = exact.integral(1 - t)
    assert_close(made.alpha(t), (-0.5 * integral).exp(), 1e-6)
    torch.testing.assert_close(made.beta(t), exact.beta(1 - t), rtol=0, atol=8.0 / 2000)


def test_times_between_the_nodes_are_not_rounded() -> None:
    made = schedule("DDPM/linear")
    t = torch.tensor([0.5, 0.4997, 0.12345], dtype=torch.float64)
    assert_close(made.network_time(t), N * (1 - t) - 1, 1e-9)
    below_the_first = torch.tensor([1 - 0.4 / N], dtype=torch.float64)
    assert made.network_time(below_the_first).tolist() == [0]


def test_numbers_come_in_the_precision_of_the_times() -> None:
    made, t = schedule("DDPM/linear"), torch.rand(50, dtype=torch.float64)
    for of in (made.alpha, made.variance, made.sigma, made.beta, made.network_time):
        assert of(t.float()).dtype == torch.float32
        torch.testing.assert_close(of(t.float()), of(t.float().double()).float())
    # σ² ≈ 10⁻⁵ β is lost to rounding if it is made as 1 − α² in float32
    near = torch.tensor([1 - 2**-17])
    exact = -math.expm1(float(made.log_alpha_bar[1]) * N * 2**-17)
    assert float(made.variance(near)) == pytest.approx(exact, rel=1e-5)


def test_the_horizon_is_where_sampling_stops() -> None:
    assert schedule("DDPM/linear", floor=0.03).horizon == 0.97
    assert schedule("DDPM/linear", floor=0.0).horizon == 1


@pytest.mark.parametrize(
    "table", [[0.9, 0.9, 0.5], [0.5, 0.9], [1.0, 0.5], [0.9, 0.0, -1.0], [math.nan, 0.5]]
)
def test_tables_that_are_no_schedule(table: list[float]) -> None:
    with pytest.raises(CtcontrolError, match="must start at 0 and strictly decrease"):
        NoiseSchedule.from_alphas_cumprod(table, 0.02)


def test_a_schedule_that_ends_in_pure_noise() -> None:
    scheduler = DDIMScheduler(N, rescale_betas_zero_snr=True)
    with pytest.raises(CtcontrolError, match="zero terminal SNR"):
        NoiseSchedule.from_diffusers(scheduler, 0.02)


def test_a_table_that_starts_elsewhere_or_nowhere() -> None:
    for table in (torch.tensor([-0.1, -0.2]), torch.zeros(1)):
        with pytest.raises(CtcontrolError, match="must start at 0"):
            NoiseSchedule(table, 0.02)


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_floors_outside_of_the_clock(floor: float) -> None:
    with pytest.raises(CtcontrolError, match=r"floor must lie in \[0, 1\), got"):
        schedule("DDPM/linear", floor)


def test_schedulers_without_a_table() -> None:
    with pytest.raises(CtcontrolError, match="FlowMatchEulerDiscreteScheduler has no alphas_cump"):
        NoiseSchedule.from_diffusers(FlowMatchEulerDiscreteScheduler(), 0.02)
