"""Gaussian laws against torch.distributions."""

import torch
from hypothesis import given
from torch.distributions import Distribution, Independent, Normal, kl_divergence

from ctcontrol import Gaussian
from tests.helpers import assert_close, assert_mean, normal, seeded
from tests.strategies import gaussians, tensors


def _reference(law: Gaussian) -> Distribution:
    return Independent(Normal(law.mean, law.spread.expand_as(law.mean)), law.mean.ndim - 1)


@given(gaussians(3, 2, 2), gaussians(3, 2, 2), tensors(3, 2, 2))
def test_formulas_agree_with_torch_distributions(p: Gaussian, q: Gaussian, a: torch.Tensor) -> None:
    assert_close(p.log_prob(a), _reference(p).log_prob(a), 1e-12)
    assert_close(p.entropy(), _reference(p).entropy(), 1e-12)
    assert_close(p.kl(q), kl_divergence(_reference(p), _reference(q)), 1e-12)
    ratio = _reference(p).log_prob(a) - _reference(q).log_prob(a)
    assert_close(p.log_ratio(q, a), ratio, 1e-11)


@given(gaussians(3, 4), tensors(3, 4))
def test_a_law_is_at_no_distance_from_itself(p: Gaussian, a: torch.Tensor) -> None:
    assert torch.equal(p.log_ratio(p, a), torch.zeros(3, dtype=torch.float64))
    assert_close(p.kl(p), 0.0, 1e-12)


@given(gaussians(3, 4), gaussians(3, 4))
def test_kl_is_not_negative(p: Gaussian, q: Gaussian) -> None:
    assert bool((p.kl(q) >= -1e-12).all())


def test_scalar_actions_need_no_event_axes() -> None:
    law = Gaussian(torch.tensor([0.3, -1.0]), torch.tensor([0.5, 2.0]))
    a = torch.tensor([0.1, 0.4])
    assert_close(law.log_prob(a), Normal(law.mean, law.std).log_prob(a), 1e-6)


def test_log_ratio_in_many_dimensions_in_single_precision() -> None:
    """16,384 coordinates: summing log densities first would lose what the ratio is made of."""
    d, batch = 16_384, 8
    mean, std = 3 * normal(batch, d, seed=1), torch.full((batch,), 0.05, dtype=torch.float64)
    moved = mean + 1e-5 * normal(batch, d, seed=2)
    a = mean + 0.05 * normal(batch, d, seed=3)
    # What single precision is given is the truth here: its inputs are rounded once, exactly.
    single = [v.float() for v in (mean, moved, std, a)]
    old, new = (Gaussian(m, single[2]) for m in single[:2])
    exact = [v.double() for v in single]
    truth = Gaussian(exact[1], exact[2]).log_ratio(Gaussian(exact[0], exact[2]), exact[3])
    ratio = new.log_ratio(old, single[3]).double()
    naive = (new.log_prob(single[3]) - old.log_prob(single[3])).double()
    assert float((ratio - truth).abs().max()) < 2e-4
    assert float((naive - truth).abs().max()) > 10 * float((ratio - truth).abs().max())


def test_samples_have_the_law_and_come_from_the_generator() -> None:
    law = Gaussian(normal(1, 3, seed=4).expand(40_000, 3), torch.tensor([0.2, 1.0, 3.0]).double())
    law = Gaussian(law.mean, law.std.expand_as(law.mean))
    state = torch.get_rng_state()
    a = law.sample(seeded(5))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a, law.sample(seeded(5)))
    assert_mean(a, law.mean[0])
    gap = a - law.mean
    assert_mean(gap[:, :, None] * gap[:, None, :], torch.diag(law.std[0] ** 2))


def test_a_point_mass_is_drawn_exactly() -> None:
    law = Gaussian(normal(5, 2, seed=6), torch.zeros(5, dtype=torch.float64))
    assert torch.equal(law.sample(seeded()), law.mean)


def test_a_sample_carries_gradients_to_mean_and_std() -> None:
    mean, std = torch.zeros(3, 2, requires_grad=True), torch.ones(3, requires_grad=True)
    Gaussian(mean, std).sample(seeded()).sum().backward()
    assert mean.grad is not None
    assert std.grad is not None
    assert_close(mean.grad, 1.0)
    assert bool((std.grad != 0).all())


def test_expected_ratio_is_one() -> None:
    """E_q[p/q] = 1, and E_p[log p/q] = KL: the ratio is the right way up."""
    q = Gaussian(torch.zeros(100_000, 2).double(), torch.ones(100_000).double())
    p = Gaussian(q.mean + 0.3, 0.9 * q.std)
    a, b = q.sample(seeded(7)), p.sample(seeded(8))
    assert_mean(p.log_ratio(q, a).exp(), 1.0)
    assert_mean(p.log_ratio(q, b), float(p.kl(q)[0]))
