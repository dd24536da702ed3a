"""ImageReward's port against BLIP written out on the published names."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, gelu, layer_norm, linear

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import load_reward
from ctcontrol_diffusion.rewards._resize import crop_and_normalise
from tests.ctcontrol_diffusion.rewards.tiny import PROMPTS, bert_tokenizer, images

WIDTH, HIDDEN, PATCH, SIZE = 128, 128, 8, 16  # two heads of 64 in either tower


def published(seed: int = 5) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of ImageReward.pt, but smaller."""
    shapes: dict[str, tuple[int, ...]] = {
        "blip.visual_encoder.cls_token": (1, 1, WIDTH),
        "blip.visual_encoder.pos_embed": (1, 1 + (SIZE // PATCH) ** 2, WIDTH),
        "blip.visual_encoder.patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": (WIDTH,),
        "blip.text_encoder.embeddings.word_embeddings.weight": (12, HIDDEN),
        "blip.text_encoder.embeddings.position_embeddings.weight": (40, HIDDEN),
        "blip.vision_proj.weight": (8, WIDTH),
        "blip.text_proj.weight": (8, HIDDEN),
    }
    layers: dict[str, tuple[int, ...]] = {}
    for i in range(2):
        block = f"blip.visual_encoder.blocks.{i}"
        layers |= {f"{block}.attn.qkv": (3 * WIDTH, WIDTH), f"{block}.attn.proj": (WIDTH, WIDTH)}
        layers |= {f"{block}.mlp.fc1": (96, WIDTH), f"{block}.mlp.fc2": (WIDTH, 96)}
        layers |= {f"{block}.norm1": (WIDTH,), f"{block}.norm2": (WIDTH,)}
        layer = f"blip.text_encoder.encoder.layer.{i}"
        for attention, seen in (("attention", HIDDEN), ("crossattention", WIDTH)):
            layers[f"{layer}.{attention}.self.query"] = (HIDDEN, HIDDEN)
            layers[f"{layer}.{attention}.self.key"] = (HIDDEN, seen)
            layers[f"{layer}.{attention}.self.value"] = (HIDDEN, seen)
            layers[f"{layer}.{attention}.output.dense"] = (HIDDEN, HIDDEN)
            layers[f"{layer}.{attention}.output.LayerNorm"] = (HIDDEN,)
        layers[f"{layer}.intermediate.dense"] = (80, HIDDEN)
        layers[f"{layer}.output.dense"] = (HIDDEN, 80)
        layers[f"{layer}.output.LayerNorm"] = (HIDDEN,)
    layers["blip.visual_encoder.norm"] = (WIDTH,)
    layers["blip.text_encoder.embeddings.LayerNorm"] = (HIDDEN,)
    sizes = (HIDDEN, 1024, 128, 64, 16, 1)
    layers |= {f"mlp.layers.{p}": (sizes[i + 1], sizes[i]) for i, p in enumerate((0, 2, 4, 6, 7))}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator) / (shape[-1] ** 0.5 if shape[1:] else 3)
        for name, shape in shapes.items()
    }
    for name in tensors:
        if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "LayerNorm.weight")):
            tensors[name] += 1
    tensors["blip.visual_encoder.pos_embed"] *= 10
    tensors["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    return tensors


class Written:
    """(head(BLIP) − mean) / std for one image and one prompt, from the papers' definitions."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.t = {k: v.double() for k, v in tensors.items() if v.is_floating_point()}

    def dense(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.t[f"{name}.weight"], self.t[f"{name}.bias"])

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        return layer_norm(x, x.shape[-1:], self.t[f"{name}.weight"], self.t[f"{name}.bias"], eps)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = [
            ((a @ b.T) / 8).softmax(-1) @ c
            for a, b, c in zip(q.split(64, -1), k.split(64, -1), v.split(64, -1), strict=True)
        ]
        return torch.cat(heads, -1)

    def see(self, pixels: Tensor) -> Tensor:
        """Image tokens (1 + patches, width)."""
        p = "blip.visual_encoder"
        kernel, bias = self.t[f"{p}.patch_embed.proj.weight"], self.t[f"{p}.patch_embed.proj.bias"]
        patches = conv2d(pixels[None], kernel, bias, stride=PATCH)[0].flatten(1).T
        x = torch.cat([self.t[f"{p}.cls_token"][0], patches]) + self.t[f"{p}.pos_embed"][0]
        for i in range(2):
            b = f"{p}.blocks.{i}"
            q, k, v = self.dense(f"{b}.attn.qkv", self.norm(f"{b}.norm1", x, 1e-6)).chunk(3, -1)
            x = x + self.dense(f"{b}.attn.proj", self.attend(q, k, v))
            y = gelu(self.dense(f"{b}.mlp.fc1", self.norm(f"{b}.norm2", x, 1e-6)))
            x = x + self.dense(f"{b}.mlp.fc2", y)
        return self.norm(f"{p}.norm", x, 1e-6)

    def read(self, ids: Tensor, seen: Tensor) -> Tensor:
        """The first token's state after reading the prompt beside the image."""
        p = "blip.text_encoder"
        words = self.t[f"{p}.embeddings.word_embeddings.weight"][ids]
        x = words + self.t[f"{p}.embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(f"{p}.embeddings.LayerNorm", x, 1e-12)
        for i in range(2):
            layer = f"{p}.encoder.layer.{i}"
            for kind, keys in (("attention", None), ("crossattention", seen)):
                name, keys = f"{layer}.{kind}", x if keys is None else keys
                q, k, v = (
                    self.dense(f"{name}.self.{part}", y)
                    for part, y in (("query", x), ("key", keys), ("value", keys))
                )
                y = self.dense(f"{name}.output.dense", self.attend(q, k, v))
                x = self.norm(f"{name}.output.LayerNorm", x + y, 1e-12)
            y = gelu(self.dense(f"{layer}.intermediate.dense", x))
            y = self.dense(f"{layer}.output.dense", y)
            x = self.norm(f"{layer}.output.LayerNorm", x + y, 1e-12)
        return x[0]

    def score(self, image: Tensor, prompt: str) -> Tensor:
        ids = bert_tokenizer()(prompt, return_tensors="pt")["input_ids"][0, :35]
        h = self.read(ids, self.see(crop_and_normalise(image[None], SIZE)[0].double()))
        for place in (0, 2, 4, 6, 7):
            h = self.dense(f"mlp.layers.{place}", h)
        return (h[0] - 0.16717362830052426) / 1.0333394966054072


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ImageReward.pt and its tokenizer on disk."""
    folder = tmp_path_factory.mktemp("image-reward")
    torch.save(published(), folder / "ImageReward.pt")
    bert_tokenizer().save_pretrained(folder)
    return folder


def test_published_weights_give_the_written_out_score(folder: Path) -> None:
    reward = load_reward(f"image-reward,weights={folder},tokenizer={folder},rows=2")
    written = Written(published())
    pairs = zip(images(size=24), PROMPTS, strict=True)
    expected = torch.stack([written.score(image, prompt) for image, prompt in pairs])
    rewards = reward(images(size=24), PROMPTS, {})[0]
    assert torch.allclose(rewards.double(), expected, atol=1e-4)
    assert rewards.unique().shape == (3,)


def test_it_looks_at_the_image_and_reads_the_prompt(folder: Path) -> None:
    reward = load_reward(f"image-reward,weights={folder},tokenizer={folder}")
    picture = images()[:1]
    one, other = (float(reward(picture, [p], {})[0]) for p in ("a cat", "a bus"))
    assert abs(one - other) > 1e-3
    assert abs(one - float(reward(1 - picture, ["a cat"], {})[0])) > 1e-3


def test_gradients_reach_the_pixels(folder: Path) -> None:
    reward = load_reward(f"image-reward,weights={folder},tokenizer={folder}")
    assert reward.differentiable
    reward.probe(images(), PROMPTS, {})
    half = load_reward(f"image-reward,weights={folder},tokenizer={folder},dtype=bfloat16")
    whole = reward(images(), PROMPTS, {})[0]
    assert torch.allclose(half(images(), PROMPTS, {})[0], whole, atol=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blip.visual_encoder.norm.bias": None}, r"1 names are missing \(first post_layernorm"),
        ({"blip.visual_encoder.cls_token": None}, "no weight 'cls_token' of an ImageReward"),
        ({"blip.visual_encoder.head.weight": torch.zeros(2)}, "'head.weight', which BLIP's image"),
        ({"blip.text_encoder.pooler.dense.bias": torch.zeros(2)}, "1 are unknown .*pooler.dense"),
        ({"mlp.layers.7.weight": torch.zeros(2, 16)}, r"shape \(2, 16\) instead of \(1, 16\)"),
    ],
)
def test_every_weight_has_its_place(
    folder: Path, tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    tensors = {k: v for k, v in (published() | change).items() if v is not None}
    torch.save(tensors, tmp_path / "other.pt")
    with pytest.raises(CtcontrolError, match=message):
        load_reward(f"image-reward,weights={tmp_path / 'other.pt'},tokenizer={folder}")


def test_the_published_sizes_are_read_from_the_shapes() -> None:
    """Heads of 64, BLIP's image tolerance: not the defaults of transformers' configurations."""
    from ctcontrol_diffusion.rewards._image_reward import network_from_published

    network = network_from_published(published(), "here")
    text, vision = network.text.config, network.vision.config
    assert (text.num_hidden_layers, text.num_attention_heads) == (2, 2)
    assert (vision.num_attention_heads, vision.image_size, vision.patch_size) == (2, 16, 8)
    assert vision.layer_norm_eps == 1e-6
