"""Strong and weak order of every scheme, on a non-linear problem and on the law of a linear one."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

import ctcontrol as ct
from ctcontrol.exact.lq import LinearGaussianPolicy
from tests.ctcontrol.solvers.fine_path import FinePath, order
from tests.helpers import assert_close, normal, slope
from tests.tables import SCHEMES, SOLVERS, plant

F64 = torch.float64
# scheme -> strong order for additive noise, weak order
ORDERS: dict[ct.Scheme, tuple[float, float]] = {
    ct.EulerMaruyama(): (1.0, 1.0),
    ct.Heun(): (1.0, 2.0),
    ct.SRA1(): (1.5, 2.0),
}


class Pendulum(ct.ElementwiseActionSDE, ct.AdditiveNoiseSDE):
    """dX = (sin(2X + 2t) − X) dt + (1 + ½ sin 3t) dW."""

    def free_drift(self, t: ct.Time, x: ct.State, context: ct.Context) -> ct.State:
        return (2 * x + 2 * t[:, None]).sin() - x

    def action_gain(self, t: ct.Time) -> ct.Scalar:
        return torch.ones_like(t)

    def volatility(self, t: ct.Time, x: ct.State, a: ct.Action | None = None) -> ct.Volatility:
        return ct.ScalarVolatility(1 + 0.5 * (3 * t).sin())


@dataclass(frozen=True, eq=False)
class Setup:
    """One path on coarser and coarser grids, and X_1 on the finest with errors far below."""

    steps: tuple[int, ...]
    paths: list[FinePath]
    solution: Tensor

    @classmethod
    def of(cls, finest: int, batch: int, steps: tuple[int, ...]) -> "Setup":
        path = FinePath.draw(finest, batch, 1, seed=1)
        solution = _end(ct.SRA1(), path)
        return cls(steps, [path.coarse(n) for n in steps], solution)

    def ends(self, scheme: ct.Scheme) -> Tensor:
        """X_1 on every grid, (steps, batch)."""
        return torch.stack([_end(scheme, path) for path in self.paths])


def _end(scheme: ct.Scheme, path: FinePath) -> Tensor:
    x = torch.ones(path.increments.shape[1], 1, dtype=F64)
    return path.march(scheme, Pendulum(), x)[:, 0]


@cache
def strong_setup() -> Setup:
    return Setup.of(1024, 3000, (16, 32, 64, 128))


@cache
def weak_setup() -> Setup:
    return Setup.of(128, 100_000, (4, 8, 16, 32))


def test_every_scheme_of_a_grid_has_its_order() -> None:
    """Exact schemes have none, and samplers of diffusion models have their own tests."""
    rest = {"ExactLinear", "DDIM", "ExponentialVP", "ExponentialNoiseVP", "FlowSDE"}
    kinds = {r.kind.__name__ for r in (*SCHEMES, *SOLVERS)}
    assert {type(scheme).__name__ for scheme in ORDERS} == kinds - rest


@pytest.mark.parametrize("scheme", ORDERS, ids=repr)
def test_strong_order(scheme: ct.Scheme) -> None:
    """|slope − order| ≤ 4 standard errors + C·Δ: what the terms beyond the leading one do."""
    setup = strong_setup()
    found, stderr = order(setup.steps, (setup.ends(scheme) - setup.solution).abs())
    assert stderr < 0.02
    assert abs(found - ORDERS[scheme][0]) < 4 * stderr + 0.06


@pytest.mark.parametrize("scheme", ORDERS, ids=repr)
def test_weak_order(scheme: ct.Scheme) -> None:
    """Of E X²; on one path most of the noise of E X²_Δ − E X² cancels."""
    setup = weak_setup()
    gaps = setup.ends(scheme).square() - setup.solution.square()
    found, stderr = order(setup.steps, gaps)
    assert stderr < 0.1
    assert abs(found - ORDERS[scheme][1]) < 4 * stderr + 0.25


class Uncorrelated(ct.SRA1):
    """The classic mistake: ΔZ of the right variance, Δ³/3, but independent of ΔW."""

    def step(
        self,
        sde: ct.ControlledSDE,
        t0: ct.Time,
        t1: ct.Time,
        x: ct.State,
        a: ct.Action,
        dw: ct.Noise,
        context: ct.Context,
    ) -> ct.State:
        area = dw[:, 1] / 3**0.5  # ΔZ/Δ
        right = torch.stack([dw[:, 0], 3**0.5 * (2 * area - dw[:, 0])], 1)
        return super().step(sde, t0, t1, x, a, right, context)


def test_the_area_must_be_correlated_with_the_increment() -> None:
    setup = strong_setup()
    found, _ = order(setup.steps, (setup.ends(Uncorrelated()) - setup.solution).abs())
    assert found < 1.1


def test_areas_of_a_coarse_grid_have_their_law() -> None:
    """Var ΔW = Δ, Cov(ΔW, ΔZ) = Δ²/2, Var ΔZ = Δ³/3."""
    path = FinePath.draw(8, 200_000, 1, seed=2).coarse(2)
    W, U = (v[1, :, 0] for v in (path.increments, path.areas))
    moments = torch.stack([W * W, W * U, U * U])
    stderr = moments.std(1) / 200_000**0.5
    assert bool(((moments.mean(1) - torch.tensor([0.5, 0.0, 0.5])).abs() < 4.5 * stderr).all())


# --- the law of a linear chain, without sampling ---


@torch.no_grad()
def _law(scheme: ct.Scheme, sde: ct.ControlledSDE, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of X_1 from N(m, C), by what a step does with unit vectors."""
    lq = plant()
    mean, covariance = torch.tensor(lq.initial_mean), torch.tensor(lq.initial_covariance)
    d, dt = len(mean), 1 / steps
    zero, times = torch.zeros(1, d, dtype=F64), torch.linspace(0, 1, steps + 1, dtype=F64)
    for k in range(steps):

        def step(x: Tensor, dw: Tensor, k: int = k) -> Tensor:
            t0, t1 = (t.expand(len(x)) for t in times[k : k + 2])
            return scheme.step(sde, t0, t1, x, x, dw, None)

        shape = scheme.noise_like(sde, times[:1], zero, zero).shape[1:]
        n = int(np.prod(shape))
        silent = torch.zeros(d, *shape, dtype=F64)
        shift = step(zero, silent[:1])
        decay = (step(torch.eye(d, dtype=F64), silent) - shift).mT
        unit = torch.eye(n, dtype=F64).reshape(n, *shape)
        root = (step(zero.expand(n, d), unit) - shift).mT
        mean = decay @ mean + shift[0]
        covariance = decay @ covariance @ decay.mT + dt * root @ root.mT
    return mean, covariance


@pytest.mark.parametrize("scheme", ORDERS, ids=repr)
def test_weak_order_of_the_law_of_a_closed_loop(scheme: ct.Scheme) -> None:
    lq, policy = plant(), LinearGaussianPolicy([[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]], [0.2, -0.1])
    sde, moments = ct.closed_loop(lq.problem().sde, policy), lq.moments(policy)
    exact = torch.tensor(moments.mean(1.0)), torch.tensor(moments.covariance(1.0))
    steps = [16, 32, 64, 128]
    laws = [_law(scheme, sde, n) for n in steps]
    for i in range(2):
        errors = [float((law[i] - exact[i]).abs().max()) for law in laws]
        assert -slope(steps, errors) == pytest.approx(ORDERS[scheme][1], abs=0.05)


def test_a_held_action_costs_an_order_whatever_the_scheme() -> None:
    """Feedback from the beginning of a step: weak order 1 even for an exact step."""
    lq, gain = plant(), [[0.4, 0.2, 0.0], [0.1, 0.5, 0.3]]
    policy = LinearGaussianPolicy(gain, [0.2, -0.1])
    exact, sde = torch.tensor(lq.moments(policy).mean(1.0)), lq.problem().sde
    for scheme in (ct.ExactLinear(), ct.Heun()):
        errors = []
        for n in (16, 32, 64, 128):
            x = torch.tensor(lq.initial_mean)[None]
            for k in range(n):
                t0, t1 = (torch.full((1,), j / n, dtype=F64) for j in (k, k + 1))
                a = policy.dist(t0, x, None).mean.detach()
                dw = torch.zeros_like(scheme.noise_like(sde, t0, x, a))
                x = scheme.step(sde, t0, t1, x, a, dw, None)
            errors.append(float((x[0] - exact).abs().max()))
        assert -slope((16, 32, 64, 128), errors) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("scheme", [ct.Heun(), ct.SRA1()], ids=repr)
def test_one_drift_is_linear_growth(scheme: ct.Scheme) -> None:
    """Without noise the step of a linear drift is 1 + λΔ + ½(λΔ)²."""
    lq = plant(volatility=0.0)
    sde, x = lq.problem().sde, normal(2, 3)
    t0, t1 = torch.zeros(2, dtype=F64), torch.full((2,), 0.1, dtype=F64)
    a = torch.zeros(2, 2, dtype=F64)
    dw = torch.ones_like(scheme.noise_like(sde, t0, x, a))
    A = 0.1 * torch.tensor(lq.A)
    expected = x @ (torch.eye(3, dtype=F64) + A + 0.5 * A @ A).mT
    assert_close(scheme.step(sde, t0, t1, x, a, dw, None), expected, 1e-13)
