"""Image statistics, diversity and drift, against counting by hand."""

import math

import pytest
import torch

from ctcontrol_diffusion.inspection import diversity as diversity_of
from ctcontrol_diffusion.inspection import drifts, image_statistics
from tests.helpers import normal, seeded


def halves(left: float, right: float, channels: int = 3) -> torch.Tensor:
    image = torch.full((1, channels, 8, 8), left)
    image[..., 4:] = right
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_of_two_halves(channels: int) -> None:
    found = image_statistics(halves(0.0, 0.6, channels))
    assert float(found["dark pixels"]) == 0.5
    assert float(found["saturated values"]) == 0.5
    assert float(found["color entropy"]) == pytest.approx(1.0)  # two colors, equally often
    # of 7 × 7 pixels with both neighbours, one column of 7 sees a step of 0.6
    assert float(found["edge density"]) == pytest.approx(0.6 / 7, abs=1e-6)


def test_statistics_of_one_color_and_of_many() -> None:
    flat = image_statistics(torch.full((2, 3, 8, 8), 0.5))
    assert flat["color entropy"].tolist() == [0.0, 0.0]
    assert flat["edge density"].tolist() == [0.0, 0.0]
    noise = image_statistics(torch.rand(4, 3, 64, 64, generator=seeded(0)))
    torch.testing.assert_close(noise["color entropy"], torch.full((4,), 6.0), atol=0.02, rtol=0)
    gray = image_statistics(torch.rand(4, 1, 64, 64, generator=seeded(0)))
    torch.testing.assert_close(gray["color entropy"], torch.full((4,), 4.0), atol=0.02, rtol=0)
    torch.testing.assert_close(gray["dark pixels"], torch.full((4,), 0.1), atol=0.02, rtol=0)


def test_diversity_of_standard_normals() -> None:
    """E|f − f'| = 2 Γ((k + 1)/2)/Γ(k/2) for N(0, I) in k dimensions."""
    k, n = 5, 400
    features = normal(2 * n, k, seed=0)
    mean, error = diversity_of(features, ["a"] * n + ["b"] * n)
    exact = 2 * math.exp(math.lgamma((k + 1) / 2) - math.lgamma(k / 2))
    assert error is not None
    assert 0 < error < 0.05
    assert abs(mean - exact) < 4 * error


def test_the_error_of_diversity_is_its_spread() -> None:
    many = [diversity_of(normal(30, 4, seed=seed), ["a"] * 30) for seed in range(200)]
    means = torch.tensor([mean for mean, _ in many])
    errors = torch.tensor([error or 0.0 for _, error in many])
    assert float(errors.mean()) == pytest.approx(float(means.std()), rel=0.2)


def test_diversity_is_within_prompts() -> None:
    features = torch.tensor([[0.0], [2.0], [100.0], [104.0], [7.0]])
    prompts = ["a", "a", "b", "b", "alone"]
    mean, error = diversity_of(features, prompts)
    assert mean == 3.0  # of 2 and 4; the one that is alone has no pair
    assert error == pytest.approx(1.0)  # over the two prompts
    assert diversity_of(features[:2], ["a", "a"]) == (2.0, None)
    assert math.isnan(diversity_of(features[:2], ["a", "b"])[0])


def measured(images: torch.Tensor) -> dict[str, torch.Tensor]:
    return image_statistics(images.clamp(0, 1))


def test_an_unchanged_policy_is_not_flagged() -> None:
    """Never on the same noise; on other noise as seldom as 3 σ say, at any number of images."""
    for n in (8, 16, 400):
        alarms = 0
        for seed in range(50):
            base = measured(0.5 + 0.2 * normal(n, 3, 8, 8, seed=seed))
            other = measured(0.5 + 0.2 * normal(n, 3, 8, 8, seed=100 + seed))
            assert not any(drift.alarming for drift in drifts(base, base))
            alarms += sum(drift.alarming for drift in drifts(base, other))
        assert alarms <= 2  # of 200


def test_small_changes_are_sure_but_not_alarming() -> None:
    base = 0.5 + 0.2 * normal(400, 3, 8, 8, seed=0) + 0.2 * normal(400, 1, 1, 1, seed=1)
    found = drifts(measured(base), measured(0.98 * base))
    assert any(abs(d.shift.mean) > 3 * d.shift.stderr for d in found)
    assert not any(drift.alarming for drift in found)


@pytest.mark.parametrize(
    ("hack", "flagged"),
    [
        (lambda x: 0.1 * x, "dark pixels"),  # ever darker
        (lambda x: x.mean((2, 3), keepdim=True).expand_as(x), "edge density"),  # flat
        (lambda x: x.round(), "saturated values"),  # black and white
        (lambda x: 0.5 + 0.01 * (x - 0.5), "color entropy"),  # one color
    ],
)
def test_a_hacked_reward_is_flagged(hack: torch.nn.Module, flagged: str) -> None:
    base = (0.5 + 0.2 * normal(32, 3, 8, 8, seed=0)).clamp(0, 1)
    found = drifts(measured(base), measured(hack(base)))
    alarms = {drift.name: drift for drift in found if drift.alarming}
    assert flagged in alarms
    assert str(alarms[flagged]).startswith(f"{flagged} ")
    assert "σ" in str(alarms[flagged])
