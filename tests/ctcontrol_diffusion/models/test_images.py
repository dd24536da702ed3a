"""Images of .npz files and of folders of pictures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.images import read_images


def picture(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_pictures_of_a_folder_come_by_name_from_all_levels(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    content = {"a.png": picture(0, 4, 6, 3), "b/c.PNG": picture(1, 4, 6, 3)}
    for name, pixels in content.items():
        Image.fromarray(pixels).save(tmp_path / name)
    Image.fromarray(picture(2, 4, 6)).save(tmp_path / "d.jpg", quality=95)
    (tmp_path / "notes.txt").write_text("no picture")
    images = read_images(tmp_path)
    assert images.shape == (3, 3, 4, 6)
    assert images.dtype == torch.uint8
    for row, pixels in enumerate(content.values()):
        assert np.array_equal(images[row].movedim(0, -1).numpy(), pixels)
    gray = images[2]
    assert torch.equal(gray[0], gray[1])


def test_gray_pictures_stay_gray(tmp_path: Path) -> None:
    pixels = picture(0, 4, 6)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert torch.equal(read_images(tmp_path), torch.from_numpy(pixels)[None, None])


def test_files_of_a_folder_are_joined(tmp_path: Path) -> None:
    parts = [picture(k, 2, 4, 4, 3) for k in range(2)]
    for k, part in enumerate(parts):
        np.savez(tmp_path / f"{k}.npz", images=part)
    assert np.array_equal(read_images(tmp_path).movedim(1, -1).numpy(), np.concatenate(parts))


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 4, 6, 3)).save(tmp_path / "a.png")
    Image.fromarray(picture(0, 5, 6, 3)).save(tmp_path / "b.png")
    with pytest.raises(CtcontrolError, match=r"a\.png has \(4, 6, 3\) and .*b\.png \(5, 6, 3\); r"):
        read_images(tmp_path)
    for k in (4, 5):
        np.savez(tmp_path / f"{k}.npz", images=picture(0, 2, k, 4, 3))
    with pytest.raises(CtcontrolError, match=r"5\.npz \(3, 5, 4\); resize them"):
        read_images(tmp_path)


def test_a_damaged_picture_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CtcontrolError, match=r"no images at .*PNG and JPEG"):
        read_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(CtcontrolError, match=r"a\.png.*take the file away"):
        read_images(tmp_path)
