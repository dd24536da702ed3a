"""What is written is loaded by diffusers itself and does what the trained network did."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.lora import ATTENTION_AND_RESIDUALS, Adapters
from ctcontrol_diffusion.publish import Mismatch, _write, publish_lora, publish_pipeline
from ctcontrol_diffusion.publish._factors import Factor, factors_of, of_one_rank, plain_weights
from tests.ctcontrol_diffusion.adapted import adapted, answer, pipeline, stirred, unet
from tests.ctcontrol_diffusion.tiny import tiny_pixels, tiny_sd, tiny_sdxl

PROMPTS = ["a cat", "a dog"]
FILE = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "sd": tiny_sd(folder / "sd"),
        "v": tiny_sd(folder / "v", "v_prediction"),
        "xl": tiny_sdxl(folder / "xl"),
        "pixels": tiny_pixels(folder / "pixels"),
        "classes": tiny_pixels(folder / "classes", num_class_embeds=3),
    }


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sd", {}),
        ("v", {"use_rslora": True}),
        ("xl", {"rank_pattern": {"attn1.to_q": 2}, "alpha_pattern": {"attn2.to_k": 3}}),
        ("sd", {"target_modules": ["to_q", "conv1", "proj_in"]}),
    ],
)
def test_adapters_load_with_their_strength(
    name: str, settings: dict[str, Any], models: dict[str, str], tmp_path: Path
) -> None:
    """alpha is not the rank, and nothing in the file tells it."""
    network = adapted(models[name], **settings)
    expected = answer(network)
    found = publish_lora(network, models[name], tmp_path, PROMPTS)
    assert found.difference <= 1e-5
    assert found.effect > 0.003
    loaded = pipeline(models[name])
    base = answer(loaded.unet)
    loaded.load_lora_weights(tmp_path)
    error, effect = (float((said - expected).abs().max()) for said in (answer(loaded.unet), base))
    assert effect > 1000 * error
    assert all(key.startswith("unet.") and "alpha" not in key for key in load_file(tmp_path / FILE))


def test_adapters_need_no_safety_checker(tmp_path: Path) -> None:
    """It is named by the model, and its files are not there, as where a run did without."""
    model, out = tiny_sd(tmp_path / "model"), tmp_path / "out"
    index = tmp_path / "model" / "model_index.json"
    named = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index.write_text(json.dumps(json.loads(index.read_text()) | {"safety_checker": named}))
    out.mkdir()
    assert publish_lora(adapted(model), model, out, PROMPTS).difference <= 1e-5
    network = unet(model).requires_grad_(True)
    with pytest.raises(CtcontrolError, match="cannot load the model"):
        publish_pipeline(network, model, out, PROMPTS)


def test_adapters_of_a_network_in_half_precision(models: dict[str, str], tmp_path: Path) -> None:
    found = publish_lora(adapted(models["sd"], torch.bfloat16), models["sd"], tmp_path, PROMPTS)
    assert found.difference <= 1e-5
    tensors = load_file(tmp_path / FILE)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def _as_peft(factors: Any, pipeline: Any, folder: Path) -> None:
    """Without the prefix by which pipelines find it."""
    from safetensors.torch import save_file

    tensors = {f"base_model.model.{n}.lora_A.weight": f.down for n, f in factors.items()}
    tensors |= {f"base_model.model.{n}.lora_B.weight": f.up for n, f in factors.items()}
    save_file(tensors, folder / FILE)


def _not_folded(factors: Any, pipeline: Any, folder: Path) -> None:
    again = {name: factor.scaled(4 / 10) for name, factor in factors.items()}
    _WRITE(again, pipeline, folder)


def _one_missing(factors: Any, pipeline: Any, folder: Path) -> None:
    _WRITE(dict(list(factors.items())[1:]), pipeline, folder)


_WRITE = _write._write


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (_as_peft, "load_lora_weights loaded nothing, without saying so"),
        (_not_folded, "was loaded with an error of"),
        (_one_missing, "attn1.to_q was not loaded"),
    ],
)
def test_mistakes_in_writing_are_seen(
    mistake: Any,
    message: str,
    models: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_write, "_write", mistake)
    with pytest.raises(Mismatch, match=message):
        publish_lora(adapted(models["sd"]), models["sd"], tmp_path, PROMPTS)


def test_images_are_compared_and_not_weights_alone(models: dict[str, str], tmp_path: Path) -> None:
    """The network was trained in more than its adapters."""
    network = adapted(models["sd"])
    with torch.no_grad():
        network.conv_in.weight.mul_(1.1)
    with pytest.raises(Mismatch, match=r"a pixel differs by 0\.\d+ \(at most 1e-04 is allowed\)"):
        publish_lora(network, models["sd"], tmp_path, PROMPTS)


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_whole_pipelines(name: str, models: dict[str, str], tmp_path: Path) -> None:
    network = stirred(unet(models[name]).requires_grad_(True), 0.05)
    found = publish_pipeline(network, models[name], tmp_path, PROMPTS)
    assert found.difference == 0
    assert found.effect > 0.02
    again = pipeline(tmp_path)
    assert torch.equal(answer(again.unet), answer(network))
    assert again.scheduler.config["prediction_type"] == "epsilon"


@pytest.mark.parametrize("name", ["pixels", "classes"])
@pytest.mark.parametrize("trained", ["all", "lora"])
def test_pixel_models(name: str, trained: str, models: dict[str, str], tmp_path: Path) -> None:
    network = UNet2DModel.from_pretrained(models[name], subfolder="unet")
    if trained == "lora":
        Adapters(network, 2, torch.Generator(), targets=ATTENTION_AND_RESIDUALS)
    stirred(network, 0.3 if trained == "lora" else 0.05)
    found = publish_pipeline(network, models[name], tmp_path)
    assert found.difference <= 1e-5
    assert found.effect > 0.02
    again = UNet2DModel.from_pretrained(tmp_path, subfolder="unet")
    assert not any("lora" in key for key in again.state_dict())
    x = torch.randn(2, 3, 8, 8)
    labels = torch.tensor([1, 2]) if name == "classes" else None
    with torch.no_grad():
        ours, theirs = (n(x, 5, class_labels=labels).sample for n in (network, again))
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_a_weight_that_is_written_wrong_is_seen(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = stirred(unet(models["sd"]).requires_grad_(True), 0.05)

    def rounded(module: Any) -> dict[str, torch.Tensor]:
        return {k: v.half().float() for k, v in plain_weights(module).items()}

    monkeypatch.setattr(_write, "plain_weights", rounded)
    with pytest.raises(Mismatch, match="a pixel differs by"):
        publish_pipeline(network, models["sd"], tmp_path, PROMPTS)


def test_changes_are_those_of_peft(models: dict[str, str]) -> None:
    network = adapted(models["sd"])
    for name, factor in factors_of(network).items():
        wanted = network.get_submodule(name).get_delta_weight("default")
        torch.testing.assert_close(factor.change().float(), wanted, rtol=1e-5, atol=1e-6)
    assert len(get_peft_model_state_dict(network)) == 2 * len(factors_of(network))


def test_factors_of_one_rank_make_the_same_changes() -> None:
    torch.manual_seed(0)
    factors = {
        "a": Factor(torch.randn(2, 5), torch.randn(3, 2)),
        "b": Factor(torch.randn(4, 5, 3, 3), torch.randn(6, 4, 1, 1)),
        "c": Factor(torch.randn(1, 5, 3, 3), torch.randn(6, 1, 1, 1)),
    }
    for name, factor in of_one_rank(factors).items():
        assert factor.rank == 4
        assert factor.shape == factors[name].shape
        torch.testing.assert_close(factor.change(), factors[name].change())


def test_other_adapters_are_refused(models: dict[str, str]) -> None:
    network = adapted(models["sd"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft, that there are two
        network.add_adapter(LoraConfig(r=2, target_modules=["to_q"]), "another")
    with pytest.raises(CtcontrolError, match="only one LoRA adapter"):
        factors_of(network)


def test_models_that_are_not_there(tmp_path: Path) -> None:
    from ctcontrol_diffusion.publish._compare import loaded

    with pytest.raises(CtcontrolError, match="cannot load the model '/nowhere'") as error:
        loaded("/nowhere", "cpu")
    assert "\n" not in str(error.value)
