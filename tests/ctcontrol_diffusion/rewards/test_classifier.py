"""CIFAR ResNets in the published layout, and the reward by a class."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import (
    CIFAR10_CLASSES,
    CifarResNet,
    ClassScore,
    load_cifar_resnet,
    load_reward,
)
from tests.ctcontrol_diffusion.rewards.tiny import seeded

DATA = Path(__file__).parents[4] / "shared/data"


@pytest.fixture(scope="module")
def network() -> CifarResNet:
    """One block a stage, random."""
    network = seeded(CifarResNet(1))
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.1)
        if name.endswith("running_var"):
            buffer.fill_(1.7)
    return network


@pytest.fixture(scope="module")
def path(network: CifarResNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights as .npz, without the counts of batches, as published ones are."""
    path = tmp_path_factory.mktemp("resnet") / "resnet8.npz"
    tensors = {k: v.numpy() for k, v in network.state_dict().items() if "batches" not in k}
    np.savez(path, **tensors)
    return path


def images(n: int = 3) -> Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def written(t: dict[str, Tensor], x: Tensor) -> Tensor:
    """Logits of a network of one block a stage, on pixels in [0, 1], from the definition."""

    def norm(name: str, x: Tensor) -> Tensor:
        stats = (t[f"{name}.running_mean"], t[f"{name}.running_var"])
        return nn.functional.batch_norm(x, *stats, t[f"{name}.weight"], t[f"{name}.bias"])

    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    x = norm("bn1", nn.functional.conv2d(x, t["conv1.weight"], padding=1)).relu()
    for stage, stride in ((1, 1), (2, 2), (3, 2)):
        name = f"layer{stage}.0"
        y = nn.functional.conv2d(x, t[f"{name}.conv1.weight"], stride=stride, padding=1)
        y = nn.functional.conv2d(
            norm(f"{name}.bn1", y).relu(), t[f"{name}.conv2.weight"], padding=1
        )
        short = x[:, :, ::stride, ::stride]
        if stride == 2:
            zeros = torch.zeros_like(short[:, : short.shape[1] // 2])
            short = torch.cat([zeros, short, zeros], 1)
        x = (norm(f"{name}.bn2", y) + short).relu()
    return x.mean((2, 3)) @ t["linear.weight"].T + t["linear.bias"]


def test_the_network_is_the_published_one(network: CifarResNet, path: Path) -> None:
    loaded = load_cifar_resnet(path)
    with torch.no_grad():
        logits = loaded(2 * images() - 1)
    assert torch.allclose(logits, written(network.state_dict(), images()), atol=1e-4)
    assert loaded.features(2 * images() - 1).shape == (3, 64)
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_other_containers_hold_the_same(network: CifarResNet, path: Path, tmp_path: Path) -> None:
    prefixed = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({"state_dict": prefixed, "best_prec1": 91.7}, tmp_path / "resnet.th")
    same = load_cifar_resnet(tmp_path / "resnet.th").state_dict()
    assert all(torch.equal(v, same[k]) for k, v in load_cifar_resnet(path).state_dict().items())


@pytest.mark.parametrize("target", ["3", "cat"])
def test_the_reward_is_the_targets_log_probability_or_logit(
    network: CifarResNet, path: Path, target: str
) -> None:
    logits = written(network.state_dict(), images())
    reward = load_reward(f"classifier,weights={path},target={target},rows=2")
    rewards, info = reward(images(), [""] * 3, {})
    assert torch.allclose(rewards, logits.log_softmax(1)[:, 3], atol=1e-4)
    assert torch.equal(info["correct"], logits.argmax(1) == 3)
    logit = load_reward(f"classifier,weights={path},target={target},measure=logit")
    assert torch.allclose(logit(images(), [""] * 3, {})[0], logits[:, 3], atol=1e-4)
    reward.probe(images(), [""] * 3, {})
    assert reward.differentiable


def test_what_is_refused(path: Path, tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(CtcontrolError, match=message):
            load_reward(name)

    refused("classifier,weights=/nowhere.npz,target=1", "no weights of a CIFAR ResNet at /nowhere")
    refused(f"classifier,weights={path},target=10", r"in 0 … 9, got 10")
    refused(f"classifier,weights={path},target=cow", "one of airplane, .*, got 'cow'")
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    refused(f"classifier,weights={tmp_path / 'a.npz'},target=1", "holds no CIFAR ResNet")
    (tmp_path / "b.npz").write_bytes(b"PK nothing")
    refused(f"classifier,weights={tmp_path / 'b.npz'},target=1", r"not a readable .npz file")
    np.savez(tmp_path / "c.npz", x=np.array([{}], dtype=object))
    refused(f"classifier,weights={tmp_path / 'c.npz'},target=1", r"not a readable .npz file")
    with pytest.raises(CtcontrolError, match="in training mode"):
        ClassScore(CifarResNet(1), 0)
    with pytest.raises(CtcontrolError, match="must be in 0 … 2, got 3"):
        ClassScore(lambda x: x.mean((2, 3)), 3)(images(), [""] * 3, {})


def cifar_test_images() -> tuple[Tensor, Tensor]:
    with np.load(DATA / "cifar10/test.npz", allow_pickle=False) as held:
        sheet = Image.open(io.BytesIO(held["sheet_000"].tobytes())).convert("RGB")
        labels = torch.from_numpy(held["labels"][:1000].astype(np.int64))
    tiles: Any = np.asarray(sheet).reshape(-1, 32, 40, 32, 3).transpose(0, 2, 1, 3, 4)
    return torch.from_numpy(tiles.reshape(-1, 32, 32, 3)).movedim(-1, 1)[:1000] / 255, labels


@pytest.mark.parametrize(("depth", "accuracy"), [(20, 0.9172), (56, 0.9338)])
def test_published_weights_classify_cifar_10(depth: int, accuracy: float) -> None:
    """Within four standard errors of the accuracy on all test images."""
    weights = DATA / f"weights/resnet{depth}_akamaster.npz"
    if not weights.is_file():
        pytest.skip("no published CIFAR ResNets in ../shared/data")
    pictures, labels = cifar_test_images()
    pictures, labels = pictures[:400], labels[:400]
    network = load_cifar_resnet(weights)
    with torch.no_grad():
        right = (network(2 * pictures - 1).argmax(1) == labels).float().mean()
    assert float(right) == pytest.approx(accuracy, abs=4 * (0.07 / 400) ** 0.5)
    assert len(CIFAR10_CLASSES) == network.linear.out_features
