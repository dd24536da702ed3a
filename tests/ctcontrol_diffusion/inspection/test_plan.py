"""Cells, their prompts and batches; names of distances."""

import pytest
import torch

from ctcontrol_diffusion.inspection import Cell, Plan, RealImages
from ctcontrol_diffusion.inspection._inspector import sizes


def test_cells_and_their_names() -> None:
    plan = Plan((2, 4), 10, ("SDE", "dpm++2m"), groups={"seen": ("a",), "unseen": ("b",)})
    cells = plan.cells()
    assert len(cells) == 8
    assert cells[0] == Cell("SDE", 2, "seen")
    assert cells[-1].labels == {"sampler": "dpm++2m", "steps": 4, "prompts": "unseen"}
    assert cells[-1].name == "dpm++2m-4-unseen"
    assert Plan((2,), 3).cells() == [Cell("SDE", 2), Cell("ODE", 2)]


def test_every_prompt_has_its_share_of_the_images() -> None:
    few = Plan((2,), 7, groups={"g": ("a", "b", "c")}).texts("g")
    assert few is not None
    assert [few.count(text) for text in "abc"] == [3, 2, 2]
    many = Plan((2,), 5, groups={"g": tuple(map(str, range(50)))}, seed=3)
    chosen = many.texts("g")
    assert chosen is not None
    assert len(set(chosen)) == 5
    assert chosen == many.texts("g")
    assert chosen != Plan((2,), 5, groups=many.groups, seed=4).texts("g")
    assert many.texts("") is None


@pytest.mark.parametrize(("images", "batch"), [(7, 3), (6, 3), (2, 5)])
def test_batches(images: int, batch: int) -> None:
    found = list(sizes(images, batch))
    assert sum(found) == images
    assert max(found) <= batch
    assert max(found) - min(found) <= 1


@pytest.mark.parametrize(
    ("name", "images", "number", "title"),
    [
        ("inception", 50_000, "FID", "FID"),
        ("inception", 10_000, "FID-10k (proxy)", "FID-10k (proxy)"),
        ("inception", 500, "FID-500 (proxy)", "FID-500 (proxy)"),
        ("resnet20.npz", 10_000, "frechet", "Fréchet-10k (proxy)"),
        ("resnet20.npz", 50_000, "frechet", "Fréchet-50k"),
    ],
)
def test_what_a_distance_may_be_called(name: str, images: int, number: str, title: str) -> None:
    real = RealImages(lambda x: x.flatten(1), torch.zeros(2, 1), name)
    assert real.number(images) == number
    assert real.title(images) == title
