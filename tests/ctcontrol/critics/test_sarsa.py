"""The rate of a policy that is neither optimal nor of Gibbs form, learned with its value."""

import pytest
import torch
from torch import Tensor

from ctcontrol import (
    CtcontrolError,
    EulerMaruyama,
    Gaussian,
    LearnedAdvantage,
    LinearValue,
    RatedValue,
    SarsaFit,
    ShapeError,
    TimeGrid,
    simulate,
)
from ctcontrol.exact import lq
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.problems import exact_rates

PLANT = lq.LQProblem(
    A=[[0.2, 0.4], [-0.3, -0.1]],
    B=[[1.0, 0.2], [0.0, 0.8]],
    Q=[[1.0, 0.1], [0.1, 0.6]],
    R=[[0.5, 0.1], [0.1, 0.4]],
    G=[[0.7, 0.0], [0.0, 0.4]],
    volatility=0.4,
    horizon=1.0,
    initial_mean=[0.5, -0.3],
    initial_covariance=0.3,
    discount=0.3,
    temperature=0.2,
)
POLICY = lq.LinearGaussianPolicy([[0.3, 0.1], [0.0, 0.4]], [0.2, -0.1], std=[0.5, 0.7])


def _q(t: float, x: Tensor, u: Tensor) -> Tensor:
    """The exact rate with the entropy bonus in it, as all estimators of rates have it."""
    rate, law = PLANT.advantage_rate(POLICY), POLICY.law()
    bonus = PLANT.entropy_rate(law.at(t)[2])
    return torch.as_tensor(rate(t, x.numpy(), u.numpy())) + bonus


def test_the_form_holds_the_exact_rate() -> None:
    """Linear and quadratic Hermite polynomials of (a − μ)/ς, and nothing else, make up q."""
    value, x, u = exact_rates(PLANT, POLICY), normal(6, 2, seed=1), normal(6, 2, seed=2)
    t = torch.full((6,), 0.4, dtype=torch.float64)
    assert_close(value.rate(t, x, u, None, POLICY.dist(t, x, None)), _q(0.4, x, u), 1e-10)
    assert_close(value.at(t, x, None), PLANT.value(POLICY).at(t, x, None))


def test_the_average_over_actions_is_zero_whatever_the_coefficients() -> None:
    value = RatedValue(_value(), lambda t, x, c: normal(1, 5, seed=4).expand(len(x), 5))
    n = 200_000
    law = Gaussian(
        normal(1, 2, seed=5).expand(n, 2), torch.tensor([0.5, 1.5]).double().expand(n, 2)
    )
    t, x = torch.zeros(n, dtype=torch.float64), torch.zeros(n, 2, dtype=torch.float64)
    assert_mean(value.rate(t, x, law.sample(seeded(3)), None, law)[:, None], 0.0)


def _value() -> LinearValue:
    """Quadratic in space and cubic in what is left of time."""

    def features(t: Tensor, x: Tensor, context: object) -> Tensor:
        phi = torch.stack(
            [x[:, 0] ** 2, x[:, 0] * x[:, 1], x[:, 1] ** 2, x[:, 0], x[:, 1], torch.ones_like(t)], 1
        )
        left = (1 - t)[:, None]
        return torch.cat([left * phi, left**2 * phi, left**3 * phi], 1)

    return LinearValue(features, 18, lambda t, x, c: PLANT.problem().reward.terminal(x, c))


def test_the_fit_finds_value_and_rate_within_their_error_bars() -> None:
    """Least squares of the targets on V + qΔ, solved: q* of an arbitrary policy to O(Δ)."""
    grid, paths = TimeGrid.uniform(1.0, 20), 40_000
    exact = exact_rates(PLANT, POLICY)
    path = simulate(PLANT.problem(), POLICY, grid, paths, generator=seeded(1))
    rows = SarsaFit().rows(exact, path)
    assert rows.target is not None
    value, dt = _value(), rows.t1 - rows.t0
    # q linear in its parameters: each coefficient is p·(1, t, x₁, x₂); held constant for h.
    z = (rows.action - rows.law.mean) / rows.law.std
    basis = torch.cat([torch.ones_like(dt)[:, None], rows.t0[:, None], rows.x], 1)
    square = torch.stack([z[:, 0] ** 2 - 1, z[:, 0] * z[:, 1], z[:, 1] ** 2 - 1], 1)
    zeta = torch.cat([z[:, :1] * basis, z[:, 1:] * basis, square], 1)
    design = torch.cat([value.features(rows.t0, rows.x, None), zeta * dt[:, None]], 1)
    goal = rows.target - PLANT.problem().reward.terminal(rows.x, None)
    gram = design.mT @ design
    found = torch.linalg.solve(gram, design.mT @ goal)
    errors = (design * (goal - design @ found)[:, None]).reshape(20, paths, -1).sum(0)
    inverse = torch.linalg.inv(gram)
    stderr = (inverse @ (errors.mT @ errors) @ inverse).diagonal().sqrt()[18:]
    # What it should be: the best fit of the exact rate in the same family.
    truth = LearnedAdvantage()(PLANT.problem(), EulerMaruyama(), exact, path).flatten()
    best = torch.linalg.lstsq(zeta, truth[:, None]).solution[:, 0]
    gap = (found[18:] - best).abs()
    assert bool((gap <= 4.5 * stderr + 1.0 / 20).all())
    assert float((best.abs() / stderr).max()) > 15  # the test can tell it from zero


def test_the_loss_steps_along_the_martingale_conditions() -> None:
    """−∂loss/∂ψ = E δΔ ∂q and −∂loss/∂θ = E δ ∂V with δ = target − V − qΔ, the target fixed."""
    value, slopes = _value(), torch.nn.Linear(2, 5, dtype=torch.float64)
    rated = RatedValue(value, lambda t, x, c: slopes(x))
    path = simulate(PLANT.problem(), POLICY, TimeGrid.uniform(1.0, 4), 9, generator=seeded(2))
    critic = SarsaFit()
    rows = critic.rows(rated, path)
    ours = torch.autograd.grad(-critic.loss(rated, rows), [value.theta, slopes.weight])
    with torch.no_grad():
        dt, z = rows.t1 - rows.t0, (rows.action - rows.law.mean) / rows.law.std
        zeta = torch.cat(
            [z, torch.stack([z[:, 0] ** 2 - 1, z[:, 0] * z[:, 1], z[:, 1] ** 2 - 1], 1)], 1
        )
        assert rows.target is not None
        delta = rows.target - value.at(rows.t0, rows.x, None) - dt * (slopes(rows.x) * zeta).sum(1)
        phi = value.features(rows.t0, rows.x, None)
    assert_close(ours[0], (delta[:, None] * phi).mean(0))
    weighted = (delta * dt)[:, None] * zeta
    assert_close(ours[1], weighted.mT @ rows.x / len(rows))


def test_doors() -> None:
    path = simulate(PLANT.problem(), POLICY, TimeGrid.uniform(1.0, 3), 4, generator=seeded(2))
    with pytest.raises(CtcontrolError, match="reads the rates of a RatedValue, got LinearValue"):
        LearnedAdvantage()(PLANT.problem(), EulerMaruyama(), _value(), path)
    wrong = RatedValue(_value(), lambda t, x, c: x.new_zeros(len(x), 4))
    with pytest.raises(ShapeError, match=r"shape \(12, 2\), or with a quadratic part \(12, 5\)"):
        LearnedAdvantage()(PLANT.problem(), EulerMaruyama(), wrong, path)
