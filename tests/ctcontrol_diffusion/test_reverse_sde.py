import pytest
import torch
from torch import Tensor

from ctcontrol import (
    ControlProblem,
    EulerMaruyama,
    GaussianPolicy,
    PathKL,
    TerminalReward,
    Trajectory,
    simulate,
)
from ctcontrol.exact.tilt import GaussianTilt, VariancePreserving
from ctcontrol_diffusion.reverse_sde import ReverseSDE
from ctcontrol_diffusion.solvers import DDIM
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.helpers import assert_close, assert_mean, normal, seeded, slope


def rollout(model: GaussianModel, gain: float, offset: float, steps: int, n: int) -> Trajectory:
    """n paths of dimension 2 under score + offset − gain x, with the path KL to the score."""
    mean, variance = model.start

    def corrected(t: Tensor, x: Tensor, context: object) -> Tensor:
        return model.score(t, x) + offset - gain * x

    problem = ControlProblem(
        sde=model.sde,
        reward=TerminalReward(lambda x, context: x.sum(1)),
        initial=lambda batch, g: (
            mean + variance.sqrt() * torch.randn(batch, 2, generator=g, dtype=torch.float64),
            None,
        ),
        horizon=model.schedule.horizon,
        regularizer=PathKL(GaussianPolicy(model.score), 0.5),
    )
    policy = GaussianPolicy(corrected)
    return simulate(problem, policy, model.grid(steps), n, generator=seeded(4))


def test_coefficients() -> None:
    """dY = [½βY + βa]dt + √β dW."""
    model = GaussianModel()
    sde, t = model.sde, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x, a, beta = normal(3, 2, 2), normal(3, 2, 2, seed=1), model.schedule.beta(t)
    expected = beta[:, None, None] * (0.5 * x + a)
    assert_close(sde.drift(t, x, a, None), expected)
    assert_close(sde.action_gain(t), beta)
    noise = normal(3, 2, 2, seed=2)
    assert_close(sde.volatility(t, x).mul(noise) ** 2, beta[:, None, None] * noise**2)


def test_the_exact_score_leads_back_to_the_data() -> None:
    path = rollout(GaussianModel(), 0.0, 0.0, steps=250, n=4000)
    end = path.final.flatten()
    assert_mean(end, 0.7, bias=2.0 / 250)
    assert_mean((end - 0.7) ** 2, 0.5, bias=2.0 / 250)
    assert_close(path.divergence(), 0.0)


def test_the_laws_on_the_way_are_those_of_the_noised_data() -> None:
    model = GaussianModel()
    path = rollout(model, 0.0, 0.0, steps=250, n=4000)
    for node in (60, 125, 200):
        t = path.grid.times[node : node + 1]
        x, center = path.states[node].flatten(), float(model.schedule.alpha(t)) * model.mean
        assert_mean(x, center, bias=2.0 / 250)
        assert_mean((x - center) ** 2, float(model.spread(t)), bias=2.0 / 250)


def test_the_error_of_euler_is_of_first_order() -> None:
    model, counts = GaussianModel(entries=40_000), [100, 200, 400]
    ends = [model.end(EulerMaruyama(), n) for n in counts]
    for error in ([m - 0.7 for m, _ in ends], [v - 0.5 for _, v in ends]):
        assert slope(counts, error) == pytest.approx(-1, abs=0.2)
    assert abs(ends[-1][1] - 0.5) < 0.01


class Mirrored(ReverseSDE):
    """The sign of the forward process, −½βY."""

    def free_drift(self, t: Tensor, x: Tensor, context: object) -> Tensor:
        return -super().free_drift(t, x, context)


def test_the_sign_of_the_drift_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GaussianModel()
    monkeypatch.setattr(GaussianModel, "sde", property(lambda self: Mirrored(self.schedule)))
    mean, variance = model.end(EulerMaruyama(), 400)
    assert abs(mean - 0.7) > 0.2
    assert abs(variance - 0.5) > 0.2


def test_path_kl_of_an_affine_correction() -> None:
    """0.43619701 nats a coordinate by the moment equations; read at s = t it would be 0.3086,

    without the ½ 0.8724.
    """
    path = rollout(GaussianModel(), 0.25, 0.6, steps=250, n=4000)
    assert_mean(path.divergence() / 2, 0.43619701, bias=2.0 / 250)


def test_the_exact_tilt_problem_is_the_same_problem() -> None:
    """Moments of a corrected model by the equations of `GaussianTilt` and by its own steps."""
    model = GaussianModel()
    tilt = GaussianTilt(
        VariancePreserving(0.1, 8.0), mean=[0.7], covariance=0.5, linear=[1.0], kl_weight=0.5
    )
    t = torch.tensor([0.3], dtype=torch.float64)
    x = normal(1, 1)
    H, h = tilt.score(0.3)
    assert_close(model.score(t, x), torch.tensor(h - H @ x[0].numpy())[None], 1e-6)
    c = tilt.coefficients(0.3)
    drift = model.sde.drift(t, x, model.score(t, x), None)
    assert_close(drift, torch.tensor(c.A @ x[0].numpy() + c.f)[None], 2e-3)
    assert float(model.sde.volatility(t, x).mul(x)[0, 0] ** 2) == pytest.approx(
        float(c.diffusion[0, 0]) * float(x**2), rel=1e-3
    )


@pytest.mark.parametrize(
    ("eta", "shift"), [(1.0, 0.86607621), (0.7, 0.66696359), (0.3, 0.19050950)]
)
def test_the_start_limits_how_far_a_reward_can_pull(eta: float, shift: float) -> None:
    """The optimal correction from the noised data misses the tilted mean: m + (1 − ϱ^{2η²}) v b/κ.

    ϱ² = α_T² v/S_T. Linear reward b y, path KL weight κ, sampler with noise η; the value's slope
    is b ∂E[Y_T|Y_t = y]/∂y = b √(v/S) ϱ_s^{η²}.
    """
    b, kl_weight = 1.1, 0.7
    model = GaussianModel(beta_max=4.0, mean=0.4, variance=0.6)

    def optimal(t: Tensor, x: Tensor) -> Tensor:
        v, S = model.variance, model.spread(t)
        correlation = model.schedule.alpha(t) * (v / S).sqrt()
        gradient = b * (v / S).sqrt() * correlation ** (eta**2)
        return 2 * eta**2 / (1 + eta**2) * gradient / kl_weight * torch.ones_like(x)

    base = model.end(DDIM(eta), 400)
    mean, variance = model.end(DDIM(eta), 400, optimal)
    assert mean - base[0] == pytest.approx(shift, abs=6e-3)
    assert variance == pytest.approx(0.6, abs=0.01)
    if eta == 1:
        mean, variance = model.end(EulerMaruyama(), 400, optimal)
        assert mean == pytest.approx(0.4 + shift, abs=0.01)
        assert variance == pytest.approx(0.6, abs=0.01)
        # started at the noised target instead, nothing is missed
        target = b * model.variance / kl_weight
        center, spread = model.start
        moved = center + float(model.schedule.alpha(torch.zeros(1))) * target
        mean, _ = model.end(EulerMaruyama(), 400, optimal, (moved, spread))
        assert mean == pytest.approx(0.4 + target, abs=0.01)
