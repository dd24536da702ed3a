"""Designs of value networks on latents, by a tiny model that is guided and decoded."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ctcontrol_diffusion import config as c
from ctcontrol_diffusion.build import build
from ctcontrol_diffusion.check import check_config
from ctcontrol_diffusion.guidance import GuidedScore
from tests.ctcontrol_diffusion.tiny import tiny_sd


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny_sd(tmp_path_factory.mktemp("models") / "sd")


def small(
    model: str, critic: dict[str, Any], micro_batch: int | None = 4, **problem: Any
) -> c.Config:
    given: dict[str, Any] = {"reward": "brightness", "precision": "float32", **problem}
    return c.Config(
        problem=c.StableDiffusion(model=model, **given),
        threads=1,
        iterations=1,
        micro_batch=micro_batch,
        rollout=c.Rollout(steps=3, batch=6),
        update=c.Update(minibatch=6, share=1.0, warmup=0),
        critic=c.Critic(minibatch=6, width=8, policy_waits=0, **critic),
    )


@pytest.mark.parametrize(
    "critic",
    [
        {"design": "tower"},
        {"design": "tower", "second": "denoised", "first": "original"},
        {"design": "convolution", "first": "none", "link": "const"},
        {"design": "features"},
    ],
)
def test_every_design_trains_on_latents(critic: dict[str, Any], model: str) -> None:
    made = build(check_config(small(model, critic)))
    assert made.value is not None
    before = {n: p.detach().clone() for n, p in made.value.named_parameters()}
    first = next(made.iterations())
    assert first.updates > 0
    after = dict(made.value.named_parameters())
    assert any(not torch.equal(p, before[n]) for n, p in after.items())


def test_features_are_those_of_the_prompted_half(model: str) -> None:
    """Whether both halves go through the network together or not, and how many at once."""
    found: list[Tensor] = []
    variants: list[dict[str, Any]] = [
        {"guidance": 1.0},
        {"guidance": 5.0},
        {"guidance": 5.0, "guidance_gradient": "prompted"},
        {"guidance": 5.0, "micro_batch": 2},
        {"guidance": 5.0, "micro_batch": 2, "guidance_gradient": "prompted"},
    ]
    for changes in variants:
        score = build(small(model, {"design": "features"}, **changes)).setting.mean
        assert isinstance(score, GuidedScore)
        x = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            _, notes = score.noted(torch.full((6,), 0.4), x, torch.arange(6))
        assert notes is not None
        found.append(notes)
    for notes in found[1:]:
        torch.testing.assert_close(notes, found[0], rtol=1e-4, atol=1e-4)
