import pytest
import torch
from sklearn.datasets import load_digits

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.models.digits import digits_data, noisy_captions


def test_all_digits_are_there_pixel_by_pixel() -> None:
    data = digits_data()
    pixels, digits = load_digits(return_X_y=True)
    assert data.images.shape == (1797, 1, 8, 8)
    assert data.images.dtype == torch.float32
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == digits.tolist()
    assert torch.equal((data.images + 1) * 8, torch.tensor(pixels).float().view(-1, 1, 8, 8))
    assert (data.images.min(), data.images.max()) == (-1, 1)


def test_the_split_is_fixed_disjoint_exhaustive_and_stratified() -> None:
    everything, train, held_out = (digits_data(s) for s in ("all", "train", "heldout"))
    assert (len(train), len(held_out)) == (1437, 360)

    def rows(images: torch.Tensor) -> list[tuple[float, ...]]:
        return [tuple(image.flatten().tolist()) for image in images]

    assert sorted(rows(train.images) + rows(held_out.images)) == sorted(rows(everything.images))
    assert not set(rows(train.images)) & set(rows(held_out.images))
    share = held_out.labels.bincount() / everything.labels.bincount()
    assert share.sub(0.2).abs().max() < 0.01
    assert torch.equal(digits_data("heldout").images, held_out.images)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(CtcontrolError, match="'test'"):
        digits_data("test")  # pyright: ignore[reportArgumentType]  # that is the mistake


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_captions_are_right_with_probability_one_minus_p(
    p: float, generator: torch.Generator
) -> None:
    """A wrong caption drawn from all ten digits would be right p/10 too often."""
    n = 200_000
    labels = torch.arange(n) % 10
    captions = noisy_captions(labels, wrong_probability=p, generator=generator)
    right = (captions == labels).double().mean().item()
    assert abs(right - (1 - p)) < 4.5 * (p * (1 - p) / n) ** 0.5
    shift = (captions - labels) % 10
    frequencies = shift.bincount(minlength=10)[1:] / n
    assert (frequencies - p / 9).abs().max() < 5 * (p / 9 / n) ** 0.5


def test_captions_at_the_ends(generator: torch.Generator) -> None:
    labels = torch.arange(1000) % 10
    assert torch.equal(noisy_captions(labels, wrong_probability=0, generator=generator), labels)
    never = noisy_captions(labels, wrong_probability=1, generator=generator)
    assert not (never == labels).any()
    assert never.dtype == labels.dtype
    assert 0 <= never.min() <= never.max() <= 9


def test_captions_follow_their_generator() -> None:
    labels = digits_data().labels
    first, second = (
        noisy_captions(labels, generator=torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_probability_outside_the_unit_interval_is_refused(
    p: float, generator: torch.Generator
) -> None:
    with pytest.raises(CtcontrolError, match="wrong_probability"):
        noisy_captions(torch.zeros(3).long(), wrong_probability=p, generator=generator)
