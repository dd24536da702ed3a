"""The tiny pipelines load offline, listen to prompts and are always the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd, tiny_sdxl


def loaded(kind: Any, folder: str) -> Any:
    pipeline = kind.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (StableDiffusionPipeline, tiny_sd),
        (StableDiffusionPipeline, lambda folder: tiny_sd(folder, "v_prediction")),
        (StableDiffusionXLPipeline, tiny_sdxl),
    ],
)
def test_prompts_matter(kind: Any, make: Any, tmp_path: Path) -> None:
    folder = make(tmp_path / "model")
    assert list(tmp_path.glob("model/unet/*.safetensors"))

    def drawn(pipeline: Any, prompt: str) -> torch.Tensor:
        torch.manual_seed(1)
        return pipeline(prompt, num_inference_steps=2, output_type="pt", guidance_scale=5.0).images

    pipeline = loaded(kind, folder)
    assert len(pipeline.tokenizer) == 514
    cat = drawn(pipeline, "cat")
    assert cat.shape == (1, 3, 16, 16)
    assert float(cat.std()) > 0.02
    assert float((cat - drawn(pipeline, "dog")).abs().max()) > 1e-3
    again = loaded(kind, make(tmp_path / "again"))
    torch.testing.assert_close(drawn(again, "cat"), cat, rtol=0, atol=1e-6)


def test_pixels(tmp_path: Path) -> None:
    pipeline = loaded(DDPMPipeline, tiny_pixels(tmp_path / "model"))
    images = pipeline(num_inference_steps=2, output_type="np").images
    assert images.shape == (1, 8, 8, 3)
