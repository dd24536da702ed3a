"""CLIP score, PickScore, HPS v2 and the aesthetic head on small random models."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import CheckedReward, load_reward
from ctcontrol_diffusion.rewards._open_clip import from_open_clip
from ctcontrol_diffusion.rewards._resize import MEAN, STD, crop_and_normalise
from tests.ctcontrol_diffusion.rewards.tiny import (
    PROMPTS,
    clip_config,
    clip_tokenizer,
    images,
    save_clip,
    seeded,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model on disk."""
    folder = tmp_path_factory.mktemp("clip")
    save_clip(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> CLIPModel:
    """The same in memory."""
    return CLIPModel.from_pretrained(folder).eval()


def cosines(model: CLIPModel, pixels: Tensor, prompts: list[str]) -> Tensor:
    """Of transformers' own forward, one pair at a time, without padding."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    found: list[Tensor] = []
    for image, prompt in zip(pixels, prompts, strict=True):
        ids = clip_tokenizer()(prompt, return_tensors="pt")["input_ids"]
        out = model(input_ids=ids, pixel_values=((image - mean) / std)[None])
        found.append(out.logits_per_image[0, 0] / model.logit_scale.exp())
    return torch.stack(found)


@pytest.mark.parametrize("name", ["clip-score", "clip-score,scale=100,rows=2", "pickscore"])
def test_scores_are_cosines_of_transformers_model(
    folder: Path, model: CLIPModel, name: str
) -> None:
    words = f",tokenizer={folder}" if name == "pickscore" else ""
    reward = load_reward(f"{name},model={folder}{words}")
    scale = {"clip-score": 1, "pickscore": math.exp(3)}.get(name, 100)
    rewards, info = reward(images(), PROMPTS, {})
    cosine = cosines(model, images(), PROMPTS)
    assert torch.allclose(rewards, scale * cosine, rtol=1e-4)
    assert torch.allclose(info["cosine"], cosine, rtol=1e-4)
    assert rewards.std() > 1e-3 * scale  # another prompt and another image, another score


def test_the_score_depends_on_neither_neighbours_nor_rows(folder: Path) -> None:
    reward = load_reward(f"clip-score,model={folder},rows=2")
    whole = reward(images(), PROMPTS, {})[0]
    single = [reward(images()[i : i + 1], PROMPTS[i : i + 1], {})[0] for i in range(3)]
    assert torch.allclose(torch.cat(single), whole, atol=1e-6)


def test_gradients_reach_the_pixels_and_no_weight(folder: Path) -> None:
    reward = load_reward(f"clip-score,model={folder}")
    reward.probe(images(), PROMPTS, {})
    pixels = images(size=24).requires_grad_()
    up = reward(pixels, PROMPTS, {})[0].sum()
    (gradient,) = torch.autograd.grad(up, pixels)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    with torch.no_grad():
        step = 1e-2 * gradient / gradient.norm()
        moved = reward(pixels + step, PROMPTS, {})[0].sum() - up
    assert float(moved) == pytest.approx(float((gradient * step).sum()), rel=0.1)
    weights = reward.function.encoder.model.parameters()  # type: ignore[attr-defined]  # ours
    assert not any(w.requires_grad for w in weights)


def test_half_precision_is_near_and_returned_as_float32(folder: Path) -> None:
    whole, half = (
        load_reward(f"clip-score,model={folder},dtype={dtype}")(images(), PROMPTS, {})[0]
        for dtype in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert torch.allclose(half, whole, atol=0.03)


@pytest.mark.parametrize("shape", [(40, 40), (32, 48), (50, 30), (16, 16), (9, 12)])
def test_preprocessing_is_pillows_but_for_rounding(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 6, 6, generator=generator)
    picture = nn.functional.interpolate(coarse, shape, mode="bilinear")
    picture = (picture * 255).round() / 255
    array = (picture[0] * 255).round().byte().movedim(0, -1).numpy()
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    theirs = processor(images=Image.fromarray(array), return_tensors="pt")["pixel_values"]
    ours = crop_and_normalise(picture, 16)
    assert ours.shape == (1, 3, 16, 16)
    assert float((ours - theirs).abs().max()) < 1.5 / 255 / min(STD)


def test_preprocessing_resizes_as_pillow_does() -> None:
    """Antialiased with Pillow's kernel: another one, or none, is off by tenths."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.randint(256, (1, 3, 64, 64), generator=generator) / 255
    array = (picture[0] * 255).round().byte().movedim(0, -1).numpy()
    small = Image.fromarray(array).resize((16, 16), Image.Resampling.BICUBIC)
    theirs = torch.from_numpy(np.asarray(small).copy()).movedim(-1, 0) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    ours = crop_and_normalise(picture, 16)[0] * std + mean
    assert float((ours - theirs).abs().max()) < 1.5 / 255


def test_gray_images_become_three_channels() -> None:
    gray = images()[:, :1]
    assert torch.equal(
        crop_and_normalise(gray, 16), crop_and_normalise(gray.repeat(1, 3, 1, 1), 16)
    )


def open_clip_layout(model: CLIPModel) -> dict[str, Tensor]:
    """The same weights as open_clip stores them, written down by hand."""
    own = model.state_dict()
    tensors = {
        "logit_scale": own["logit_scale"],
        "positional_embedding": own["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": own["text_model.embeddings.token_embedding.weight"],
        "text_projection": own["text_projection.weight"].T,
        "visual.class_embedding": own["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": own["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": own["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": own["visual_projection.weight"].T,
        "attn_mask": torch.zeros(77, 77),
    }
    for kind in ("weight", "bias"):
        tensors[f"ln_final.{kind}"] = own[f"text_model.final_layer_norm.{kind}"]
        tensors[f"visual.ln_pre.{kind}"] = own[f"vision_model.pre_layrnorm.{kind}"]
        tensors[f"visual.ln_post.{kind}"] = own[f"vision_model.post_layernorm.{kind}"]
        for theirs, tower in (("", "text_model"), ("visual.", "vision_model")):
            for i in range(2):
                block, layer = f"{theirs}transformer.resblocks.{i}", f"{tower}.encoder.layers.{i}"
                qkv = [own[f"{layer}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
                tensors[f"{block}.attn.in_proj_{kind}"] = torch.cat(qkv)
                tensors[f"{block}.attn.out_proj.{kind}"] = own[f"{layer}.self_attn.out_proj.{kind}"]
                tensors[f"{block}.ln_1.{kind}"] = own[f"{layer}.layer_norm1.{kind}"]
                tensors[f"{block}.ln_2.{kind}"] = own[f"{layer}.layer_norm2.{kind}"]
                tensors[f"{block}.mlp.c_fc.{kind}"] = own[f"{layer}.mlp.fc1.{kind}"]
                tensors[f"{block}.mlp.c_proj.{kind}"] = own[f"{layer}.mlp.fc2.{kind}"]
    return tensors


class OpenClipImages(nn.Module):
    """The image tower of open_clip's CLIP, straight from its definition, on its own names."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.t = {k.removeprefix("visual."): v for k, v in tensors.items() if "visual." in k}

    def norm(self, name: str, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(
            x, x.shape[-1:], self.t[f"{name}.weight"], self.t[f"{name}.bias"]
        )

    def forward(self, pixels: Tensor) -> Tensor:
        t = self.t
        x = nn.functional.conv2d(pixels, t["conv1.weight"], stride=8).flatten(2).mT
        x = (
            torch.cat([t["class_embedding"].expand(len(x), 1, -1), x], 1)
            + t["positional_embedding"]
        )
        x = self.norm("ln_pre", x)
        for i in range(2):
            name = f"transformer.resblocks.{i}"
            attention = nn.MultiheadAttention(x.shape[-1], 2, batch_first=True)
            inner = {
                k.removeprefix(f"{name}.attn."): v for k, v in t.items() if f"{name}.attn" in k
            }
            attention.load_state_dict(inner)
            y = self.norm(f"{name}.ln_1", x)
            x = x + attention(y, y, y, need_weights=False)[0]
            y = self.norm(f"{name}.ln_2", x)
            y = nn.functional.linear(y, t[f"{name}.mlp.c_fc.weight"], t[f"{name}.mlp.c_fc.bias"])
            y = nn.functional.gelu(y)
            x = x + nn.functional.linear(
                y, t[f"{name}.mlp.c_proj.weight"], t[f"{name}.mlp.c_proj.bias"]
            )
        return self.norm("ln_post", x[:, 0]) @ t["proj"]


def test_hps_v2_loads_open_clips_weights_one_for_one(
    folder: Path, model: CLIPModel, tmp_path: Path
) -> None:
    other = seeded(CLIPModel(clip_config()), seed=9)
    tensors = open_clip_layout(other)
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "HPS_v2.1_compressed.pt")
    reward = load_reward(f"hps-v2,weights={tmp_path},model={folder}")
    rewards, _ = reward(images(), PROMPTS, {})
    assert torch.allclose(rewards, cosines(other, images(), PROMPTS), rtol=1e-4)
    assert not torch.allclose(rewards, cosines(model, images(), PROMPTS), rtol=0.1)
    pixels = crop_and_normalise(images(), 16)
    with torch.no_grad():
        theirs = OpenClipImages(tensors)(pixels)
        ours = other.get_image_features(pixel_values=pixels).pooler_output
    assert torch.allclose(theirs, ours, atol=1e-5)


def refused(name: str, message: str) -> None:
    with pytest.raises(CtcontrolError, match=message) as caught:
        load_reward(name)
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    tensors = open_clip_layout(seeded(CLIPModel(clip_config())))
    torch.save({**tensors, "visual.head": torch.zeros(1)}, path)
    refused(f"hps-v2,weights={path},model={folder}", r"'visual.head' is no weight of open_clip's")
    torch.save({k: v for k, v in tensors.items() if k != "visual.proj"}, path)
    refused(f"hps-v2,weights={path},model={folder}", r"1 names are missing \(first visual_proj")
    torch.save({**tensors, "visual.proj": torch.zeros(2, 2)}, path)
    refused(f"hps-v2,weights={path},model={folder}", r"shape \(2, 2\) instead of \(24, 20\)")
    with pytest.raises(CtcontrolError, match="is no weight of open_clip"):
        from_open_clip({"transformer.resblocks.0.attn.in_proj": torch.zeros(1)})


class Trojan:
    """What a pickle could do."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("code of a file ran",)


def test_no_code_of_a_file_runs(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.pt"
    torch.save({"state_dict": Trojan()}, path)
    refused(f"aesthetic,head={path},model={folder}", "more than tensors, .* save its state_dict")
    path.write_bytes(b"nothing")
    refused(f"aesthetic,head={path},model={folder}", r"bad\.pt")
    torch.save({"a": 1}, path)
    refused(f"aesthetic,head={path},model={folder}", "no state dictionary of named tensors")
    assert "ran" not in capsys.readouterr().out


def test_missing_models_say_which_and_how_to_give_a_path(folder: Path, tmp_path: Path) -> None:
    refused("clip-score", "needs 'openai/clip-vit-large-patch14', which is neither here nor")
    refused("pickscore,model=nobody/nothing", "'nobody/nothing'.*and give its path")
    refused(f"aesthetic,model={folder}", "aesthetic needs 'trl-lib/ddpo-aesthetic-predictor'")
    refused(f"aesthetic,head={tmp_path},model={folder}", "has no aesthetic-model.pth")
    refused(f"clip-score,model={folder},dtype=int8", "must be one of float32, .*, got 'int8'")


def test_a_model_of_another_kind_or_with_holes_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    refused(f"clip-score,model={tmp_path}", "needs a model of kind 'clip', but .* of kind 'bert'")
    holes = tmp_path / "holes"
    model = seeded(CLIPModel(clip_config()))
    kept = {k: v for k, v in model.state_dict().items() if "visual_projection" not in k}
    model.save_pretrained(holes, state_dict=kept)
    clip_tokenizer().save_pretrained(holes)
    refused(f"clip-score,model={holes}", r"lacks 1 weights .*first visual_projection.weight")


def test_an_empty_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    """What transformers makes of vocabulary files that it overlooks."""
    tokenizer = CLIPTokenizer()
    assert len(tokenizer) == 2
    tokenizer.save_pretrained(tmp_path)
    refused(f"pickscore,model={folder},tokenizer={tmp_path}", "has 2 tokens and .* knows 514; name")


def save_head(path: Path, width: int) -> Callable[[Tensor], Tensor]:
    """A random head under the published names, and what it computes."""
    sizes, generator = (width, 1024, 128, 64, 16, 1), torch.Generator().manual_seed(3)
    tensors: dict[str, Tensor] = {}
    for place, (a, b) in zip((0, 2, 4, 6, 7), itertools.pairwise(sizes), strict=True):
        tensors[f"layers.{place}.weight"] = torch.randn(b, a, generator=generator) / a**0.5
        tensors[f"layers.{place}.bias"] = torch.randn(b, generator=generator)
    torch.save(tensors, path)

    def head(x: Tensor) -> Tensor:
        for place in (0, 2, 4, 6, 7):
            x = x @ tensors[f"layers.{place}.weight"].T + tensors[f"layers.{place}.bias"]
        return x[:, 0]

    return head


def test_aesthetic_is_the_head_of_the_unit_embedding(
    folder: Path, model: CLIPModel, tmp_path: Path
) -> None:
    head = save_head(tmp_path / "aesthetic-model.pth", 24)
    reward = load_reward(f"aesthetic,head={tmp_path},model={folder}")
    with torch.no_grad():
        pixels = crop_and_normalise(images(), 16)
        out: Any = model.get_image_features(pixel_values=pixels)
        out = out.pooler_output
    expected = head(out / out.norm(dim=1, keepdim=True))
    assert torch.allclose(reward(images(), PROMPTS, {})[0], expected, atol=1e-5)
    assert isinstance(reward, CheckedReward)
    assert reward.probe(images(), PROMPTS, {}).shape == (3,)


def test_the_published_head_loads() -> None:
    path = Path(__file__).parents[4] / "shared/data/weights/sac+logos+ava1-l14-linearMSE.pth"
    if not path.is_file():
        pytest.skip("no published aesthetic head in ../shared/data")
    from ctcontrol_diffusion.rewards._aesthetic import ScoreHead
    from ctcontrol_diffusion.rewards._towers import fill, read_tensors

    tensors = read_tensors(path)
    head = fill(ScoreHead(768), tensors, path).eval()
    x = nn.functional.normalize(torch.randn(4, 768, generator=torch.Generator().manual_seed(0)))
    expected = x
    for place in (0, 2, 4, 6, 7):
        expected = expected @ tensors[f"layers.{place}.weight"].T + tensors[f"layers.{place}.bias"]
    with torch.no_grad():
        assert torch.allclose(head(x), expected[:, 0], atol=1e-4)
    assert 0 < float(expected.mean()) < 10  # ratings go from 1 to 10
