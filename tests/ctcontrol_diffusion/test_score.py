from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import CtcontrolError, like
from ctcontrol_diffusion.models.digits import load_denoiser, noise_scheduler
from ctcontrol_diffusion.schedule import NoiseSchedule
from ctcontrol_diffusion.score import EpsilonScore, denoise, frozen, train_conditioning
from tests.ctcontrol_diffusion.gaussian import GaussianModel
from tests.helpers import assert_close, assert_mean, normal, seeded

N = 1000


class GaussianNoise(nn.Module):
    """E[ε | X_s = x] of Gaussian data, as a network sees it: at discrete times 0 … n − 1."""

    def __init__(self, model: GaussianModel, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype
        self.seen: dict[str, Any] = {}

    def forward(self, x: Tensor, time: Tensor, **labels: Tensor) -> SimpleNamespace:
        self.seen = {"time": time, **labels}
        s = (time.double() + 1) / self.model.entries
        alpha = (-0.5 * (0.1 * s + 0.5 * 7.9 * s**2)).exp()
        center = alpha * self.model.mean
        spread = alpha**2 * self.model.variance + 1 - alpha**2
        epsilon = (1 - alpha**2).sqrt() / spread
        noise = like(epsilon, x) * (x - like(center, x))
        return SimpleNamespace(sample=noise.to(self.dtype))


def test_the_score_is_that_of_the_noised_data() -> None:
    model = GaussianModel(entries=N)
    score = EpsilonScore(GaussianNoise(model), model.schedule)
    t = torch.tensor([0.0, 0.25, 0.5013, 0.97531], dtype=torch.float64)
    x = normal(4, 1, 2, 2)
    torch.testing.assert_close(
        score(t, x, None), model.score(t, x), rtol=1e-4, atol=1e-4, check_dtype=False
    )


def test_what_the_network_is_asked() -> None:
    model = GaussianModel(entries=N)
    network = GaussianNoise(model)
    score, x = EpsilonScore(network, model.schedule), normal(2, 1, 2, 2)
    t = torch.tensor([0.75, 0.50037], dtype=torch.float64)
    score(t, x, None)
    assert set(network.seen) == {"time"}
    assert_close(network.seen["time"], torch.tensor([249.0, 498.63]), 1e-7)  # not rounded
    score(t, x, torch.tensor([3, 7]))
    assert network.seen["class_labels"].tolist() == [3, 7]


def test_scores_are_float32_whatever_the_network_computes_in() -> None:
    model = GaussianModel(entries=N)
    score = EpsilonScore(GaussianNoise(model, torch.bfloat16), model.schedule)
    t, x = torch.full((2,), 0.5), normal(2, 1, 2, 2, dtype=torch.float32)
    assert score(t, x, None).dtype == torch.float32


def test_a_real_network_at_times_between_its_own() -> None:
    network, schedule = load_denoiser(), NoiseSchedule.from_diffusers(noise_scheduler(), 0.02)
    score = EpsilonScore(network, schedule)
    x, labels = normal(3, 1, 8, 8, dtype=torch.float32), torch.tensor([1, 2, 3])
    time = torch.tensor([400.0, 400.5, 401.0])
    with torch.inference_mode():
        epsilon = network(x[:1].expand(3, -1, -1, -1), time, class_labels=labels[:1].expand(3))
        below, between, above = epsilon.sample
        torch.testing.assert_close(between, (below + above) / 2, rtol=0, atol=1e-3)
        assert float((between - below).abs().max()) > 0
        t = 1 - (time.double() + 1) / N
        expected = network(x, time, class_labels=labels).sample
        expected = -expected / like(schedule.sigma(t).float(), x)
        torch.testing.assert_close(score(t.float(), x, labels), expected, rtol=1e-3, atol=1e-3)


def test_denoising_is_the_posterior_mean() -> None:
    """E[X_0 | X_s = x] = (m/v + αx/σ²)/(1/v + α²/σ²)."""
    model = GaussianModel()
    t, x = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), normal(3, 2, 2)
    alpha, variance = (like(f(t), x) for f in (model.schedule.alpha, model.schedule.variance))
    precision = 1 / model.variance + alpha**2 / variance
    expected = (model.mean / model.variance + alpha * x / variance) / precision
    assert_close(denoise(model.schedule, t, x, model.score(t, x)), expected)


def test_denoising_has_the_least_error_of_all() -> None:
    """X_0 − x̂_0 is orthogonal to functions of X_s: what makes it a conditional mean."""
    model, n = GaussianModel(), 20_000
    clean = model.mean + model.variance**0.5 * normal(n, seed=1)
    for time in (0.3, 0.8):
        t = torch.full((n,), time, dtype=torch.float64)
        x = model.schedule.alpha(t) * clean + model.schedule.sigma(t) * normal(n, seed=2)
        error = clean - denoise(model.schedule, t, x, model.score(t, x))
        assert_mean(torch.stack([error, error * x, error * x.sin()], 1), 0.0)


def test_training_the_conditioning_alone() -> None:
    network = load_denoiser()
    everything = sum(p.numel() for p in network.parameters())
    score = EpsilonScore(network, NoiseSchedule.from_diffusers(noise_scheduler(), 0.02))
    assert train_conditioning(score) is score
    embeddings = [network.time_embedding, network.class_embedding]
    embeddings += [
        module for name, module in network.named_modules() if name.endswith("time_emb_proj")
    ]
    expected = {p for module in embeddings for p in module.parameters()}  # pyright: ignore[reportOptionalMemberAccess]  # built with one
    trained = {p for p in network.parameters() if p.requires_grad}
    assert trained == expected
    assert len(embeddings) > 5
    assert 0 < sum(p.numel() for p in trained) < everything / 3
    x, t = normal(2, 1, 8, 8, dtype=torch.float32), torch.full((2,), 0.4)
    score(t, x, torch.tensor([3, 4])).square().sum().backward()
    assert all(bool(p.grad.any()) for p in trained if p.grad is not None)
    assert {p for p in network.parameters() if p.grad is not None} == trained


def test_nothing_to_condition() -> None:
    with pytest.raises(CtcontrolError, match=r"Linear has no embedding layers.*train all"):
        train_conditioning(nn.Linear(2, 2))


def test_frozen() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    assert frozen(module) is module
    assert not module.training
    assert not module[1].training
    assert not any(p.requires_grad for p in module.parameters())
    x = torch.randn(3, 2, generator=seeded())
    torch.testing.assert_close(module(x), module[0](x))
