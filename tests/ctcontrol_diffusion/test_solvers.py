import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from ctcontrol import CtcontrolError, GaussianPolicy, NoiseAbsorbingPolicy, TimeGrid, like
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.schedule import NoiseSchedule
from ctcontrol_diffusion.solvers import DDIM
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.helpers import assert_close, normal, slope
from tests.tables import plant

N = 1000


def scheduler(steps: int = 50, **changes: Any) -> DDIMScheduler:
    """The schedule of Stable Diffusion."""
    made = DDIMScheduler(
        N,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        **changes,
    )
    made.set_timesteps(steps)
    return made


def interval(made: DDIMScheduler, k: int) -> tuple[Tensor, Tensor]:
    """Control times of the step from discrete time k (0-based): s = (k + 1)/n."""
    assert made.num_inference_steps is not None
    before = k - N // made.num_inference_steps
    if before < 0:
        before = -1 if made.config["set_alpha_to_one"] else 0
    times = 1 - (torch.tensor([k, before], dtype=torch.float64) + 1) / N
    return times[:1].expand(3), times[1:].expand(3)


def spaced(made: DDIMScheduler) -> list[int]:
    """The discrete times it visits, from noise to data."""
    return [int(k) for k in made.timesteps]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("to_one", [True, False])
def test_steps_are_those_of_diffusers(eta: float, spacing: str, to_one: bool) -> None:
    made = scheduler(timestep_spacing=spacing, set_alpha_to_one=to_one)
    sde, solver = ReverseSDE(NoiseSchedule.from_diffusers(made, 0.0)), DDIM(eta)
    x, epsilon, xi = (normal(3, 1, 4, 4, seed=i) for i in range(3))
    checked = 0
    for k in spaced(made):
        t0, t1 = interval(made, k)
        if not bool((t1 > t0).all()):
            continue  # k = 0 with ᾱ_{−1} := ᾱ_0: not a step
        a = -epsilon / like(sde.schedule.sigma(t0), x)
        step = solver.mean(sde, t0, t1, x, a, None)
        dw = xi * like((t1 - t0).sqrt(), xi)
        if eta > 0:
            step = step + solver.noise(sde, t0, t1, x, a, dw)
        else:
            assert_close(solver.noise(sde, t0, t1, x, a, dw), 0.0)
        shared = xi if eta > 0 else None
        theirs = made.step(epsilon, k, x, eta=eta, variance_noise=shared, return_dict=False)[0]
        torch.testing.assert_close(step, theirs, rtol=1e-5, atol=1e-5)
        checked += 1
    assert checked >= 49


def chain_kl(made: DDIMScheduler, eta: float, gap: float) -> float:
    """Σ step_kl of a chain whose ε is off by `gap` in one coordinate, noisy steps only."""
    sde, solver, total = ReverseSDE(NoiseSchedule.from_diffusers(made, 0.0)), DDIM(eta), 0.0
    for k in spaced(made):
        t0, t1 = (t[:1] for t in interval(made, k))
        if float(solver.coefficients(sde.schedule, t0, t1)[2]) > 0:
            a = -gap / sde.schedule.sigma(t0)[:, None]
            x = torch.zeros_like(a)
            total += float(solver.step_kl(sde, t0, t1, x, a, torch.zeros_like(a), None))
    return total


@pytest.mark.parametrize(
    ("eta", "steps", "kl"),
    [
        (1.0, 25, 0.1692),
        (1.0, 50, 0.1100),
        (1.0, 100, 0.0843),
        (1.0, 1000, 0.0653),
        (0.5, 50, 0.2361),
        (0.2, 50, 1.249),
    ],
)
def test_kl_of_whole_chains(eta: float, steps: int, kl: float) -> None:
    """The continuous formula would say 0.0497 for all but the finest: half of what was spent."""
    made = scheduler(steps, set_alpha_to_one=False, steps_offset=1)
    assert chain_kl(made, eta, 0.1) == pytest.approx(kl, rel=2e-3)


@pytest.mark.parametrize("eta", [0.2, 0.6, 1.0])
def test_step_kl_in_terms_of_epsilon(eta: float) -> None:
    """|Δmean|²/(2ς²), Δmean = (√(1 − ᾱ' − ς²) − √(ᾱ'(1 − ᾱ)/ᾱ)) Δε, straight from the paper."""
    made = scheduler()
    schedule = NoiseSchedule.from_diffusers(made, 0.02)
    sde, table = ReverseSDE(schedule), made.alphas_cumprod.double()
    for k, before in ((960, 940), (500, 100), (40, 20)):
        now, then = float(table[k]), float(table[before])
        noise = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
        factor = math.sqrt(1 - then - noise) - math.sqrt(then * (1 - now) / now)
        gap = normal(3, 2, 2, seed=k)
        expected = factor**2 * gap.square().sum((1, 2)) / (2 * noise)
        t0, t1 = (torch.full((3,), 1 - (j + 1) / N, dtype=torch.float64) for j in (k, before))
        a = normal(3, 2, 2)
        other = a - gap / like(schedule.sigma(t0), a)
        assert_close(DDIM(eta).step_kl(sde, t0, t1, a, other, a, None), expected, 1e-7)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 17])
def test_what_any_number_of_steps_gets_right(eta: float, steps: int) -> None:
    """Data at one point: everything. Gaussian data: the mean, but less than the variance."""
    for variance in (0.0, 0.3, 1.0):
        model = GaussianModel(mean=0.3, variance=variance, floor=0.02)
        last = torch.tensor([model.schedule.horizon], dtype=torch.float64)
        mean, reached = model.end(DDIM(eta), steps)
        assert mean == pytest.approx(0.3 * float(model.schedule.alpha(last)), abs=1e-12)
        if variance == 0:
            assert reached == pytest.approx(float(model.spread(last)), abs=1e-12)
        else:
            assert reached < float(model.spread(last)) - 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_many_steps_get_everything_right(eta: float) -> None:
    model, counts = GaussianModel(mean=0.3, variance=0.3, floor=0.02), [50, 100, 200]
    last = torch.tensor([model.schedule.horizon], dtype=torch.float64)
    errors = [model.end(DDIM(eta), n)[1] - float(model.spread(last)) for n in counts]
    assert slope(counts, errors) == pytest.approx(-1, abs=0.15)
    assert abs(errors[-1]) < 0.02


@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_a_policy_that_absorbs_the_noise_is_the_sampler(eta: float) -> None:
    """Its action carries the noise: the same mean, and std of the step where it is applied."""
    model = GaussianModel(floor=0.02)
    grid, solver = model.grid(5), DDIM(eta)
    policy = NoiseAbsorbingPolicy(model.score, model.sde, solver, grid)
    for begin, end in grid.intervals():
        t0, t1 = (torch.full((2,), t, dtype=torch.float64) for t in (begin, end))
        x = normal(2, 1)
        law = policy.dist(t0, x, None)
        assert_close(law.mean, model.score(t0, x))
        up, down = (solver.mean(model.sde, t0, t1, x, law.mean + z, None) for z in (1.0, 0.0))
        noise = solver.noise(model.sde, t0, t1, x, law.mean, like((t1 - t0).sqrt(), x))
        assert_close((up - down).abs() * like(law.std, x), noise)
        assert float(up[0, 0]) > float(down[0, 0])  # a larger score pushes up


def test_without_noise_there_is_no_kl_and_no_likelihood() -> None:
    model = GaussianModel(floor=0.02)
    grid, x = model.grid(4), normal(1, 2)
    t0, t1 = grid.times[:1], grid.times[1:2]
    with pytest.raises(CtcontrolError, match=r"DDIM\(eta=0\.0\) has a step without noise.*eta > 0"):
        DDIM(0.0).step_kl(model.sde, t0, t1, x, x, x, None)
    with pytest.raises(CtcontrolError, match="DDIM has a step without noise"):
        NoiseAbsorbingPolicy(model.score, model.sde, DDIM(0.0), grid)


def test_the_last_step_to_the_data_is_without_noise() -> None:
    model = GaussianModel(floor=0.0)
    grid, x = model.grid(4), normal(1, 2)
    with pytest.raises(CtcontrolError, match="floor > 0"):
        DDIM(1.0).step_kl(model.sde, grid.times[-2:-1], grid.times[-1:], x, x + 1, x, None)
    with pytest.raises(CtcontrolError, match="step without noise"):
        NoiseAbsorbingPolicy(model.score, model.sde, DDIM(1.0), grid)


@pytest.mark.parametrize(
    ("eta", "message"),
    [(1.5, r"eta must lie in \[0, 1\], got 1.5"), (-0.1, "eta must be"), (math.nan, "eta must be")],
)
def test_shares_of_noise_that_are_none(eta: float, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message):
        DDIM(eta)


def test_other_dynamics_are_not_for_ddim() -> None:
    sde, t = plant().problem().sde, TimeGrid.uniform(1.0, 1).times
    policy = GaussianPolicy(lambda t, x, c: x[:, :2])
    x = normal(1, 3)
    with pytest.raises(TypeError, match="use EulerMaruyama"):
        DDIM().mean(sde, t[:1], t[1:], x, policy.dist(t[:1], x, None).mean, None)
