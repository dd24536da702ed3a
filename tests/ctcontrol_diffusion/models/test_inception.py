"""Inception through torchmetrics: what is missing is said, and images go in as bytes."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models import inception
from ctcontrol_diffusion.settings.features import real_images


class FakeInception:
    """In the place of torchmetrics' network: the mean of each channel, 2,048 times."""

    def __init__(
        self, name: str, features_list: list[str], feature_extractor_weights_path: Path
    ) -> None:
        assert (name, features_list) == ("inception-v3-compat", ["2048"])
        content = torch.load(feature_extractor_weights_path, weights_only=False)
        if content.keys() != {"weights"}:
            raise RuntimeError("these are others\nin two lines")

    def to(self, device: torch.device) -> "FakeInception":
        return self

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        assert images.shape[1] == 3
        return images.float().mean((1, 2, 3))[:, None].expand(-1, 2048)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    fid: Any = SimpleNamespace(NoTrainInceptionV3=FakeInception)
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", fid)
    module: Any = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "torch_fidelity", module)


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(CtcontrolError, match=r"--features inception needs .*ctcontrol\[fid\]"):
        inception.load_inception(None, torch.device("cpu"))


@pytest.mark.usefixtures("installed")
def test_weights_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(CtcontrolError) as error:
        inception.load_inception(None, torch.device("cpu"), flag="--problem.features")
    said = str(error.value)
    assert str(tmp_path / "hub" / "checkpoints" / inception.WEIGHTS) in said
    assert inception.ADDRESS in said
    assert "--problem.features inception=FILE" in said
    assert "\n" not in said


@pytest.mark.usefixtures("installed")
def test_weights_that_are_others(tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    torch.save({"others": torch.zeros(1)}, file)
    with pytest.raises(CtcontrolError, match=r"does not hold Inception's weights \(these are"):
        inception.load_inception(str(file), torch.device("cpu"))


class Bomb:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.usefixtures("installed")
def test_files_that_would_run_code(tmp_path: Path) -> None:
    file = tmp_path / "file.pth"
    torch.save({"weights": Bomb()}, file)
    with pytest.raises(CtcontrolError, match="does not hold Inception's weights"):
        inception.load_inception(str(file), torch.device("cpu"))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("channels", [1, 3])
def test_images_go_in_as_bytes_in_three_channels(channels: int, tmp_path: Path) -> None:
    file = tmp_path / inception.WEIGHTS
    torch.save({"weights": torch.zeros(1)}, file)
    features = inception.load_inception(str(file), torch.device("cpu"))
    images = torch.linspace(0, 1, 3)[:, None, None, None].expand(3, channels, 4, 4)
    found = features(images)
    assert found.shape == (3, 2048)
    assert found[:, 0].tolist() == [0.0, 128.0, 255.0]


@pytest.mark.usefixtures("installed")
def test_only_these_features_make_an_fid(tmp_path: Path) -> None:
    import numpy as np

    file = tmp_path / inception.WEIGHTS
    torch.save({"weights": torch.zeros(1)}, file)
    np.savez(tmp_path / "real.npz", images=np.zeros((4, 8, 8, 3), dtype=np.uint8))
    name = f"inception={file}"
    found = real_images(name, str(tmp_path / "real.npz"), torch.device("cpu"))
    assert found is not None
    assert found.number(50_000) == "FID"
    assert found.number(10_000) == "FID-10k (proxy)"
