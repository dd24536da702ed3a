"""The contract of `Solver`: what it says of its step is true of its step."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from ctcontrol import (
    BrownianPath,
    CtcontrolError,
    Gaussian,
    Scheme,
    Solver,
    UncontrolledVolatilitySDE,
)
from tests.helpers import assert_close, assert_covers, assert_mean, normal, seeded
from tests.tables import SCHEMES, SOLVERS, Row, kinds, over
from tests.tables.dynamics import Geometric

T0 = torch.tensor([0.0, 0.1, 0.31, 0.7], dtype=torch.float64)
T1 = torch.tensor([0.05, 0.4, 0.32, 0.97], dtype=torch.float64)
BATCH = len(T0)


def test_every_implementation_has_a_row() -> None:
    assert_covers(Solver, kinds(SOLVERS))
    assert_covers(Scheme, kinds(SOLVERS) | kinds(SCHEMES))


def _rows(case: Row) -> tuple[Tensor, Tensor]:
    return normal(BATCH, *case.state, seed=1), normal(BATCH, *case.action, seed=2)


def _covariance(case: Row, x: Tensor, a: Tensor) -> Tensor:
    """Of the step, (batch, d, d), from what the solver does with a basis of the noise."""
    solver, sde = case.make(), case.sde()
    shape = solver.noise_like(sde, T0, x, a).shape
    columns = []
    for i in range(math.prod(shape[1:])):
        unit = torch.zeros(BATCH, math.prod(shape[1:]), dtype=x.dtype)
        unit[:, i] = 1
        columns.append(solver.noise(sde, T0, T1, x, a, unit.reshape(shape)).flatten(1))
    root = torch.stack(columns, -1)
    return (T1 - T0)[:, None, None] * root @ root.mT


def _needs_shared_noise(case: Row) -> None:
    if not isinstance(case.sde(), UncontrolledVolatilitySDE):
        pytest.skip("two actions have laws with a KL only where they share their noise")


@over(SOLVERS)
class TestSolver:
    def test_rows_have_their_own_interval(self, case: Row) -> None:
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        whole = solver.mean(sde, T0, T1, x, a, None)
        dw = normal(*solver.noise_like(sde, T0, x, a).shape, seed=3)
        noise = solver.noise(sde, T0, T1, x, a, dw)
        assert whole.shape == noise.shape == x.shape
        for i in range(BATCH):
            one = slice(i, i + 1)
            ends = (T0[one], T1[one], x[one])
            assert_close(solver.mean(sde, *ends, a[one], None), whole[one], 1e-13)
            assert_close(solver.noise(sde, *ends, a[one], dw[one]), noise[one], 1e-13)

    def test_noise_is_linear_in_the_increment(self, case: Row) -> None:
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        shape = solver.noise_like(sde, T0, x, a).shape
        u, v = normal(*shape, seed=4), normal(*shape, seed=5)
        both = solver.noise(sde, T0, T1, x, a, 2 * u - v)
        parts = [solver.noise(sde, T0, T1, x, a, w) for w in (u, v)]
        assert_close(both, 2 * parts[0] - parts[1])

    def test_a_simulated_step_has_this_mean_and_covariance(self, case: Row) -> None:
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        n, covariance = 20_000, _covariance(case, x, a)
        for i in range(BATCH):
            rows = torch.full((n,), i)
            dw = normal(n, *solver.noise_like(sde, T0, x, a).shape[1:], seed=i)
            dw = dw * (T1[i] - T0[i]).sqrt()
            step = solver.mean(sde, T0[rows], T1[rows], x[rows], a[rows], None)
            step = step + solver.noise(sde, T0[rows], T1[rows], x[rows], a[rows], dw)
            center = solver.mean(sde, T0, T1, x, a, None)[i]
            gap = (step - center).flatten(1)
            assert_mean(gap, 0.0)
            assert_mean(gap[:, :, None] * gap[:, None, :], covariance[i])

    def test_step_kl_is_the_kl_of_the_two_step_laws(self, case: Row) -> None:
        _needs_shared_noise(case)
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        reference, covariance = normal(*a.shape, seed=6), _covariance(case, x, a)
        laws = [
            MultivariateNormal(solver.mean(sde, T0, T1, x, u, None).flatten(1), covariance)
            for u in (a, reference)
        ]
        kl = solver.step_kl(sde, T0, T1, x, a, reference, None)
        assert kl.shape == T0.shape
        assert_close(kl, kl_divergence(laws[0], laws[1]))
        assert_close(solver.step_kl(sde, T0, T1, x, a, a, None), 0.0)

    def test_driving_inverts_the_noise(self, case: Row) -> None:
        _needs_shared_noise(case)
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        v = normal(*x.shape, seed=10)
        dw = solver.driving(sde, T0, T1, x, a, v)
        assert dw.shape == solver.noise_like(sde, T0, x, a).shape
        assert_close(solver.noise(sde, T0, T1, x, a, dw), v)
        precision = torch.linalg.inv(_covariance(case, x, a))
        norm = torch.einsum("bi,bij,bj->b", v.flatten(1), precision, v.flatten(1))
        assert_close(dw.square().flatten(1).sum(1) / (T1 - T0), norm)

    def test_a_shared_interval_may_be_one_number(self, case: Row) -> None:
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        ends = [torch.full((BATCH,), t, dtype=x.dtype) for t in (0.1, 0.32)]
        dw = normal(*solver.noise_like(sde, T0, x, a).shape, seed=11)
        rows = solver.step(sde, ends[0], ends[1], x, a, dw, None)
        t0, t1 = (t[0].expand(BATCH) for t in ends)
        assert_close(solver.step(sde, t0, t1, x, a, dw, None), rows, 1e-12)

    def test_step_kl_is_differentiable_in_the_action(self, case: Row) -> None:
        _needs_shared_noise(case)
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        a.requires_grad_()
        solver.step_kl(sde, T0, T1, x, a, torch.zeros_like(a), None).sum().backward()
        assert a.grad is not None
        assert bool((a.grad != 0).any())

    def test_absorbing_std_turns_the_noise_free_step_into_the_noisy_one(self, case: Row) -> None:
        if not case.absorbs:
            pytest.skip("only elementwise actions can absorb noise")
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        std = solver.absorbing_std(sde, T0, T1)
        assert std.shape == T0.shape
        push = solver.mean(sde, T0, T1, x, a + 1, None) - solver.mean(sde, T0, T1, x, a, None)
        spread = (push.flatten(1) * std[:, None]).abs()
        covariance = _covariance(case, x, a)
        assert_close(torch.diag_embed(spread**2), covariance)

    def test_action_ratio_equals_transition_ratio(self, case: Row) -> None:
        if not case.absorbs:
            pytest.skip("only elementwise actions can absorb noise")
        solver, sde, (x, mean) = case.make(), case.sde(), _rows(case)
        std = solver.absorbing_std(sde, T0, T1)
        other = mean + 0.3 * normal(*mean.shape, seed=7)
        new, old = Gaussian(other, std), Gaussian(mean, std)
        a = old.sample(seeded(8))
        reached = solver.mean(sde, T0, T1, x, a, None)
        scale = _covariance(case, x, mean).diagonal(dim1=-2, dim2=-1).sqrt().reshape(x.shape)
        densities = [
            Independent(Normal(solver.mean(sde, T0, T1, x, m, None), scale), x.ndim - 1)
            for m in (other, mean)
        ]
        expected = densities[0].log_prob(reached) - densities[1].log_prob(reached)
        assert_close(new.log_ratio(old, a), expected)

    def test_a_short_step_follows_the_dynamics(self, case: Row) -> None:
        """Consistency: (mean − x)/Δ → b and covariance/Δ → σσᵀ, whatever the scheme."""
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        if getattr(solver, "eta", 1.0) != 1.0:
            pytest.skip("at eta < 1 the step belongs to another SDE with the same marginals")
        t0 = torch.full_like(T0, 0.4013)
        t1 = t0 + 1e-6
        drift = (solver.mean(sde, t0, t1, x, a, None) - x) / (t1 - t0)[0]
        torch.testing.assert_close(drift, sde.drift(t0, x, a, None), rtol=1e-4, atol=1e-4)
        dw = normal(*solver.noise_like(sde, t0, x, a).shape, seed=9)
        volatility = sde.volatility(t0, x, a)
        first = volatility.noise_like(x).shape[1]  # what a step draws besides dies out
        expected = volatility.mul(dw[:, :first])
        noise = solver.noise(sde, t0, t1, x, a, dw)
        torch.testing.assert_close(noise, expected, rtol=1e-4, atol=1e-4)

    def test_coupled_grids_share_their_path(self, case: Row) -> None:
        """Two half steps and one whole step of the same Brownian path end close together."""
        solver, sde, (x, a) = case.make(), case.sde(), _rows(case)
        path = BrownianPath(1.0, tuple(solver.noise_like(sde, T0, x, a).shape), seed=1)
        begin, end = 0.4, 0.404

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            s0, s1 = torch.full_like(T0, t0), torch.full_like(T0, t1)
            dw = path.increment(t0, t1, solver.noise_like(sde, s0, x, a))
            return solver.step(sde, s0, s1, x, a, dw, None)

        once = step(x, begin, end)
        twice = step(step(x, begin, 0.402), 0.402, end)
        moved = (once - x).abs().max()
        assert float((once - twice).abs().max()) < 0.1 * float(moved)


@over(SCHEMES)
class TestScheme:
    def test_rows_have_their_own_interval(self, case: Row) -> None:
        scheme, sde, (x, a) = case.make(), case.sde(), _rows(case)
        dw = normal(*scheme.noise_like(sde, T0, x, a).shape, seed=3)
        whole = scheme.step(sde, T0, T1, x, a, dw, None)
        assert whole.shape == x.shape
        for i in range(BATCH):
            one = slice(i, i + 1)
            step = scheme.step(sde, T0[one], T1[one], x[one], a[one], dw[one], None)
            assert_close(step, whole[one], 1e-13)

    def test_a_shared_interval_may_be_one_number(self, case: Row) -> None:
        scheme, sde, (x, a) = case.make(), case.sde(), _rows(case)
        t0, t1 = (torch.tensor(t, dtype=x.dtype).expand(BATCH) for t in (0.1, 0.32))
        dw = normal(*scheme.noise_like(sde, T0, x, a).shape, seed=11)
        rows = scheme.step(sde, t0.clone(), t1.clone(), x, a, dw, None)
        assert_close(scheme.step(sde, t0, t1, x, a, dw, None), rows, 1e-13)

    def test_a_short_step_is_eulers(self, case: Row) -> None:
        """To the next order, which is Δ^{3/2} for the noise and Δ² for the mean."""
        scheme, sde, (x, a) = case.make(), case.sde(), _rows(case)
        t0 = torch.full_like(T0, 0.4)
        dw = normal(*scheme.noise_like(sde, T0, x, a).shape, seed=9)
        volatility, gaps = sde.volatility(t0, x, a), []
        for dt in (1e-4, 1e-6):
            noise = dw * math.sqrt(dt)
            first = noise[:, 0] if noise.ndim > volatility.noise_like(x).ndim else noise
            euler = x + dt * sde.drift(t0, x, a, None) + volatility.mul(first)
            gaps.append((scheme.step(sde, t0, t0 + dt, x, a, noise, None) - euler).abs().max())
        assert 700 < float(gaps[0] / gaps[1]) < 1400

    def test_noise_that_depends_on_the_state_is_refused(self, case: Row) -> None:
        scheme, x = case.make(), torch.ones(BATCH, 1, dtype=T0.dtype)
        dw = torch.zeros_like(scheme.noise_like(Geometric(), T0, x, x))
        with pytest.raises(CtcontrolError, match=r"AdditiveNoiseSDE, got Geometric; .*use Euler"):
            scheme.step(Geometric(), T0, T1, x, x, dw, None)
