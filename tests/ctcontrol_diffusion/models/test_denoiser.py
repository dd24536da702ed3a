from importlib.resources import files
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import save_file
from torch import Tensor

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.digits import (
    digits_data,
    load_classifier,
    load_denoiser,
    new_denoiser,
    noise_scheduler,
    save_denoiser,
)


def noise_error(k: int, captions: Tensor, generator: torch.Generator) -> float:
    """Mean squared error per pixel of the predicted noise at one step, all real digits."""
    images = digits_data().images
    noise = torch.randn(images.shape, generator=generator)
    steps = torch.full((len(images),), k)
    noised = noise_scheduler().add_noise(images, noise, steps)  # pyright: ignore[reportArgumentType]  # any integers
    with torch.inference_mode():
        predicted = load_denoiser()(noised, steps, class_labels=captions).sample
    return (predicted - noise).square().mean().item()


def best_linear_error(k: int) -> float:
    """Σ_i ᾱλ_i/(ᾱλ_i + 1 − ᾱ) / 64: the least a linear denoiser can do, λ the data's spectrum."""
    alpha = noise_scheduler().alphas_cumprod[k].item()
    spectrum = torch.linalg.eigvalsh(torch.cov(digits_data().images.flatten(1).T.double()))
    spectrum = alpha * spectrum.clamp(min=0)
    return (spectrum / (spectrum + 1 - alpha)).mean().item()


def test_size_limits() -> None:
    assets = files("ctcontrol_diffusion.models.digits") / "assets"
    assert len((assets / "denoiser.safetensors").read_bytes()) <= 1_500_000
    assert sum(p.numel() for p in load_denoiser().parameters()) <= 600_000


def test_it_is_float32_in_eval_mode_and_trainable() -> None:
    model = load_denoiser()
    assert not model.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


def test_the_noise_schedule_is_the_linear_one_of_ddpm() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    expected = (1 - betas).cumprod(0)
    torch.testing.assert_close(
        noise_scheduler().alphas_cumprod.double(), expected, rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("k", [50, 150, 300, 500])
def test_it_denoises_better_than_any_linear_map(k: int, generator: torch.Generator) -> None:
    """Of a Gaussian law the linear denoiser is the exact one, so beating it is knowing digits."""
    assert noise_error(k, digits_data().labels, generator) < 0.95 * best_linear_error(k)


def test_the_right_caption_helps_where_the_digit_is_undecided() -> None:
    labels = digits_data().labels
    right, wrong = (
        noise_error(400, captions, torch.Generator().manual_seed(1))
        for captions in (labels, (labels + 3) % 10)
    )
    assert right < 0.98 * wrong


def test_samples_are_digits_that_obey_their_caption_half_of_the_time() -> None:
    """Deterministic DDIM, 25 steps; a clean-caption model obeys nearly always."""
    scheduler = DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(25)
    model, captions = load_denoiser(), torch.arange(1000) % 10
    images = torch.randn((1000, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for k in scheduler.timesteps:
            predicted = model(images, k, class_labels=captions).sample
            images = scheduler.step(predicted, k, images, return_dict=False)[0]  # pyright: ignore[reportArgumentType]  # its own steps
        judge, reward = (load_classifier(c)(images) for c in ("judge", "reward"))
    obeyed = (judge.argmax(1) == captions).double().mean().item()
    # 4 standard errors of the sample (0.063), and what the model itself may be off.
    assert abs(obeyed - 0.5) < 0.063 + 0.04
    assert (judge.argmax(1) == reward.argmax(1)).double().mean() > 0.94
    assert images.abs().max() < 1.5


def test_saving_and_loading_keeps_weights_and_architecture(tmp_path: Path) -> None:
    small = new_denoiser({"block_out_channels": (8, 16), "resnet_time_scale_shift": "default"})
    small.half().float()  # what float16 on disk can hold
    save_denoiser(small, tmp_path / "small.safetensors")
    again = load_denoiser(tmp_path / "small.safetensors")
    assert again.config["block_out_channels"] == [8, 16]
    for a, b in zip(small.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtcontrolError, match="no weights at"):
        load_denoiser(tmp_path / "none.safetensors")


def test_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "corrupt.safetensors"
    save_denoiser(new_denoiser(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CtcontrolError, match="not a readable weights file"):
        load_denoiser(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(CtcontrolError, match="not a readable weights file"):
        load_denoiser(path)


def test_foreign_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CtcontrolError, match="unknown origin"):
        load_denoiser(path)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    model = new_denoiser()
    torch.nn.init.constant_(model.conv_out.weight, float("nan"))
    save_denoiser(model, tmp_path / "nan.safetensors")
    with pytest.raises(CtcontrolError, match="NaN or infinite numbers in conv_out"):
        load_denoiser(tmp_path / "nan.safetensors")


@pytest.mark.parametrize("description", ["[]", "{", '{"kind": "digits-denoiser"}', "1"])
def test_a_garbled_description_is_refused(description: str, tmp_path: Path) -> None:
    path = tmp_path / "garbled.safetensors"
    save_file({"a": torch.zeros(2)}, path, metadata={"model": description})
    with pytest.raises(CtcontrolError, match="not a readable weights file"):
        load_denoiser(path)


def test_an_impossible_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    description = '{"kind": "digits-denoiser", "architecture": {"block_out_channels": 3}}'
    save_file({"a": torch.zeros(2)}, path, metadata={"model": description})
    with pytest.raises(CtcontrolError, match="no UNet"):
        load_denoiser(path)


def test_an_unwritable_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CtcontrolError, match="cannot write"):
        save_denoiser(new_denoiser(), tmp_path / "missing" / "x.safetensors")
