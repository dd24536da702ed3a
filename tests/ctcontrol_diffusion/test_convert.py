"""Adapters of other programs, written as those do, and what becomes of them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor

from ctcontrol_diffusion.convert import main
from tests.ctcontrol_diffusion.adapted import ATTENTION, adapted, answer, pipeline, stirred, unet
from tests.ctcontrol_diffusion.tiny import tiny_sd, tiny_sdxl

PLAIN = "pytorch_lora_weights"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"sd": tiny_sd(folder / "sd"), "xl": tiny_sdxl(folder / "xl")}


def convert(*words: object) -> int:
    return main([str(word) for word in words])


def peft_folder(model: str, folder: Path, *, bin: bool = False, **settings: Any) -> Any:
    """What flow_grpo and its kin write: PEFT's own folder; returns the network as PEFT loads it."""
    given: dict[str, Any] = {"r": 4, "lora_alpha": 10, "target_modules": ATTENTION, **settings}
    made: Any = get_peft_model(unet(model), LoraConfig(**given))
    stirred(made, 0.05).save_pretrained(folder, safe_serialization=not bin)
    return PeftModel.from_pretrained(unet(model), str(folder)).eval()


def processors(model: str, dtype: torch.dtype = torch.float32) -> tuple[dict[str, Tensor], Any]:
    """The file of ddpo-pytorch with diffusers 0.17, and a network in which W + BA stands for W."""
    network, tensors = unet(model), {}
    state, generator = network.state_dict(), torch.Generator().manual_seed(5)
    for name, module in network.named_modules():
        if not name.endswith((".attn1", ".attn2")):
            continue
        for ours, theirs in zip(ATTENTION, ("to_q", "to_k", "to_v", "to_out"), strict=True):
            out, into = module.get_submodule(ours).weight.shape
            down = (0.3 * torch.randn(4, into, generator=generator)).to(dtype)
            up = (0.1 * torch.randn(out, 4, generator=generator)).to(dtype)
            key = f"{name}.processor.{theirs}_lora"
            tensors |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
            state[f"{name}.{ours}.weight"] = state[f"{name}.{ours}.weight"] + up @ down
    network.load_state_dict(state)
    return tensors, network


def loads_as(network: Any, out: Path, model: str) -> None:
    """Whether a pipeline that loads `out` says what `network` says, the pretrained not."""
    loaded = pipeline(model)
    base = answer(loaded.unet)
    loaded.load_lora_weights(out)
    assert any(isinstance(layer, BaseTunerLayer) for layer in loaded.unet.modules())
    expected = answer(network)
    difference, effect = (
        float((said - expected).abs().max()) for said in (answer(loaded.unet), base)
    )
    assert effect > 1e-2
    assert difference < 1e-3 * effect
    tensors = load_file(out / f"{PLAIN}.safetensors")
    assert all(key.startswith("unet.") for key in tensors)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sd", {}),
        ("sd", {"bin": True}),
        ("sd", {"use_rslora": True}),
        ("xl", {"rank_pattern": {"attn1.to_q": 2}, "alpha_pattern": {"attn2.to_[kv]": 3}}),
        ("sd", {"target_modules": ["to_q", "conv1"]}),
    ],
)
def test_peft_folders(
    name: str, settings: dict[str, Any], models: dict[str, str], tmp_path: Path
) -> None:
    """As PEFT itself loads them; alpha is not the rank."""
    network = peft_folder(models[name], tmp_path / "peft", **settings)
    out = tmp_path / "out"
    assert convert(tmp_path / "peft", "--out", out, "--model", models[name]) == 0
    loads_as(network, out, models[name])
    assert "converted from `peft`" in (out / "README.md").read_text()


def test_pipelines_load_nothing_of_peft_folders_and_do_not_say_so(
    models: dict[str, str], tmp_path: Path
) -> None:
    """Why there is a command; when this fails, diffusers has learned it."""
    peft_folder(models["sd"], tmp_path / "peft")
    loaded = pipeline(models["sd"])
    base = answer(loaded.unet)
    loaded.load_lora_weights(tmp_path / "peft", weight_name="adapter_model.safetensors")
    assert torch.equal(answer(loaded.unet), base)
    assert not any(isinstance(layer, BaseTunerLayer) for layer in loaded.unet.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_attention_processors(
    suffix: str, dtype: torch.dtype, models: dict[str, str], tmp_path: Path
) -> None:
    tensors, network = processors(models["sd"], dtype)
    source = tmp_path / "checkpoint_9" / f"{PLAIN}{suffix}"
    source.parent.mkdir()
    write(tensors, source)
    for given in (source, source.parent):
        out = tmp_path / f"out-{given.suffix}"
        more = ("--prompts", "fox,cow", "--device", "cpu")
        assert convert(given, "--out", out, "--model", models["sd"], *more) == 0
        loads_as(network, out, models["sd"])


def test_alpha_beside_the_factors_and_in_the_metadata(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = adapted(models["sd"])
    plain = {
        f"unet.{name.replace('.default', '')}": value.detach().contiguous()
        for name, value in network.named_parameters()
        if "lora_" in name
    }
    names = {key.rpartition(".lora_")[0] for key in plain}
    (tmp_path / "beside").mkdir()
    beside = plain | {f"{name}.alpha": torch.tensor(10.0) for name in names}
    save_file(beside, tmp_path / "beside" / f"{PLAIN}.safetensors")
    (tmp_path / "inside").mkdir()
    told = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 10})}
    save_file(plain, tmp_path / "inside" / f"{PLAIN}.safetensors", metadata=told)
    for name in ("beside", "inside"):
        out = tmp_path / f"out-{name}"
        assert convert(tmp_path / name, "--out", out, "--model", models["sd"]) == 0
        assert "32 adapters of rank 4" in capsys.readouterr().out
        loads_as(network, out, models["sd"])


def write(tensors: dict[str, Tensor], path: Path) -> None:
    if path.suffix == ".bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)


def _other_key(tensors: dict[str, Tensor]) -> None:
    tensors["unet.down_blocks.1.attentions.0.proj_in.hada_w1"] = torch.zeros(2, 2)


def _of_the_text(tensors: dict[str, Tensor]) -> None:
    tensors["text_encoder.layers.0.q_proj.lora_A.weight"] = torch.zeros(4, 32)
    tensors["text_encoder.layers.0.q_proj.lora_B.weight"] = torch.zeros(32, 4)


def _half(tensors: dict[str, Tensor]) -> None:
    del tensors[next(key for key in tensors if "to_v_lora.up" in key)]


def _not_finite(tensors: dict[str, Tensor]) -> None:
    next(iter(tensors.values()))[0, 0] = float("nan")


def _no_matrix(tensors: dict[str, Tensor]) -> None:
    key = next(key for key in tensors if "to_q_lora.up" in key)
    tensors[key] = tensors[key][:, :2].contiguous()


def _lonely_alpha(tensors: dict[str, Tensor]) -> None:
    tensors["mid_block.nothing.alpha"] = torch.tensor(4.0)


def _empty(tensors: dict[str, Tensor]) -> None:
    tensors.clear()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_other_key, "down_blocks.1.attentions.0.proj_in.hada_w1, which is no low-rank factor"),
        (_of_the_text, "changes text_encoder.layers.0.q_proj, which the UNet2DConditionModel"),
        (_half, "to_v; its up is missing"),
        (_not_finite, "NaN or infinite numbers in down_blocks"),
        (_no_matrix, "do not make a matrix"),
        (_lonely_alpha, "holds mid_block.nothing.alpha, but no factors"),
        (_empty, "holds no low-rank factors"),
    ],
)
def test_what_is_more_or_less_than_factors_is_refused(
    spoil: Callable[[dict[str, Tensor]], None],
    message: str,
    models: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors, _ = processors(models["sd"])
    spoil(tensors)
    write(tensors, tmp_path / f"{PLAIN}.bin")
    refused(tmp_path, models["sd"], message, capsys)


def refused(source: Path, model: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.parent / "out"
    assert convert(source, "--out", out, "--model", model) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora = True, which is more than low-rank"),
        ({"peft_type": "LOHA"}, "peft_type = 'LOHA'"),
        ({"modules_to_save": ["conv_in"]}, "modules_to_save = ['conv_in']"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"lora_alpha": "much"}, "is 'much', no number"),
    ],
)
def test_adapters_that_are_more_than_factors(
    changes: dict[str, Any],
    message: str,
    models: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "peft"
    peft_folder(models["sd"], source)
    config = json.loads((source / "adapter_config.json").read_text())
    (source / "adapter_config.json").write_text(json.dumps(config | changes))
    refused(source, models["sd"], message, capsys)


class _Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_file_is_run(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    torch.save({"x": _Malice(tmp_path / "done")}, source / f"{PLAIN}.bin")
    refused(source, models["sd"], "what could run code is not loaded", capsys)
    assert not (tmp_path / "done").exists()


def test_the_wrong_model_is_named(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    peft_folder(models["xl"], tmp_path / "peft")
    refused(tmp_path / "peft", models["sd"], "give --model the model that", capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which adapter"),
        (["{source}", "--out", "{source}/new"], "which model is it for"),
        (["{source}", "--model", "{model}"], "where to"),
        (["{source}", "--model", "{model}", "--out", "{source}"], "exists"),
        (["{source}", "--model", "{model}", "--out", "{source}/new"], "holds no adapter"),
        (
            ["{source}/x.bin", "--model", "{model}", "--out", "{source}/new", "--device", "tpu"],
            "device 'tpu' cannot be used",
        ),
        (["{source}/x", "--model", "{model}", "--out", "{source}/new"], "there is no"),
        (["{source}/x.bin", "--model", "/nowhere", "--out", "{source}/new"], "cannot load the mod"),
        (["{source}/adapter_model.bin", "--model", "m", "--out", "{source}/new"], "is missing be"),
    ],
)
def test_bad_input(
    words: list[str],
    message: str,
    models: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("x.bin", "adapter_model.bin"):
        write(processors(models["sd"])[0], tmp_path / name)
    assert convert(*(word.format(source=tmp_path, model=models["sd"]) for word in words)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "new").exists()
