import contextlib
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ctcontrol import NumericalError
from ctcontrol_diffusion.models.digits import digits_data, load_classifier, load_denoiser
from ctcontrol_diffusion.pretrain import _objectives, digits
from ctcontrol_diffusion.pretrain.__main__ import main
from ctcontrol_diffusion.pretrain._card import model_card
from ctcontrol_diffusion.pretrain._config import DigitsPretraining
from ctcontrol_diffusion.pretrain._fit import FitOptions, fit
from ctcontrol_diffusion.pretrain._objectives import classifier_quality
from tests.started import module, started

FILES = {
    "denoiser.safetensors",
    "classifier_reward.safetensors",
    "classifier_judge.safetensors",
    "training.json",
    "MODEL_CARD.md",
}
SMALL = (
    "--threads 1 --iterations 12 --batch-size 64 "
    "--classifier-iterations 60 --classifier-batch-size 64"
).split()


@pytest.fixture(autouse=True)
def _evaluate_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "EVALUATION_REPEATS", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretrain")
    assert main(["digits", "--out", str(out), "--seed", "3", *SMALL]) == 0
    return out


def test_it_writes_models_that_load_a_record_and_a_card(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    load_denoiser(folder / "denoiser.safetensors")
    record = json.loads((folder / "training.json").read_text())
    held_out = digits_data("heldout")
    for name in ("reward", "judge"):
        logits = load_classifier(name, folder / f"classifier_{name}.safetensors")(held_out.images)
        accuracy = (logits.argmax(1) == held_out.labels).double().mean().item()
        # What the record says is what the file does, but for its half precision.
        assert accuracy == pytest.approx(
            record["classifiers"][name]["heldout"]["accuracy"], abs=2 / 360
        )
        assert accuracy > 0.5
    assert 0 < record["denoiser"]["loss"] < 1.5
    assert record["config"]["seed"] == 3
    card = (folder / "MODEL_CARD.md").read_text()
    assert record["command"] in card
    assert f"{record['denoiser']['loss']:.4f}" in card
    assert "CC BY 4.0" in card


def test_the_shipped_card_and_record_tell_what_the_shipped_weights_do() -> None:
    assets = files("ctcontrol_diffusion.models.digits") / "assets"
    record = json.loads((assets / "training.json").read_text())
    assert (assets / "MODEL_CARD.md").read_text() == model_card(record)
    data = digits_data("heldout")
    for name in ("reward", "judge"):
        measured = classifier_quality(load_classifier(name), data)
        recorded = record["classifiers"][name]["heldout"]
        assert measured["accuracy"] == pytest.approx(recorded["accuracy"], abs=1e-9)
        # The file holds half precision, the record was taken before.
        assert measured["confidence"] == pytest.approx(recorded["confidence"], abs=1e-3)


def test_the_same_seed_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    assert main(["digits", "--out", str(tmp_path), "--seed", "3", *SMALL]) == 0
    assert torch.equal(torch.get_rng_state(), before)
    for name in sorted(FILES - {"training.json", "MODEL_CARD.md"}):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_an_earlier_run_is_not_overwritten_unasked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["digits", "--out", str(folder), *SMALL]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--iterations", "0"], "iterations must be a whole number"),
        (["--learning-rate", "nan"], "learning_rate must be a finite number"),
        (["--wrong-probability", "1.5"], "wrong_probability must lie in [0, 1], got 1.5"),
        (["--label-smoothing", "1"], "label_smoothing must lie in [0, 1), got 1.0"),
        (["--seed", "-1"], "seed must lie in"),
        (["--no-such-field", "1"], "--no-such-field"),
    ],
)
def test_bad_values_are_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["digits", "--out", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [[], ["cats"]])
def test_unknown_models_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "'digits'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--help"], ["digits", "--help"]])
def test_help_is_given(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert main(words) == 0
    assert "digits" in capsys.readouterr().out


def test_an_output_that_cannot_be_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["digits", "--out", str(tmp_path / "file" / "x"), *SMALL]) == 2
    assert "give another --out" in capsys.readouterr().err


def test_a_diverging_run_stops_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--classifier-learning-rate", "1e30", "--out", str(tmp_path)]
    assert main(["digits", *SMALL, *arguments]) == 3
    assert "lower the learning rate" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_interrupt_ends_cleanly(tmp_path: Path) -> None:
    words = ["digits", "--out", str(tmp_path), "--threads", "1"]
    with started(module("ctcontrol_diffusion.pretrain"), *words) as begun:
        begun.wait_for(lambda: bool(list(tmp_path.iterdir())))
        begun.interrupt()
        done = begun.ended()
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_differs_from_the_defaults() -> None:
    assert DigitsPretraining().command() == "python -m ctcontrol_diffusion.pretrain digits"
    config = DigitsPretraining(out=Path("a b"), overwrite=True, batch_size=64)
    assert config.command().endswith("digits --out 'a b' --overwrite --batch-size 64")


def exhausted(steps: Iterator[object]) -> int:
    return sum(1 for _ in steps)


def test_fit_finds_the_least_squares_solution(generator: torch.Generator) -> None:
    inputs = torch.randn(256, 3, generator=generator, dtype=torch.float64)
    truth = torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64)
    targets = inputs @ truth + 0.1 * torch.randn(256, 1, generator=generator, dtype=torch.float64)
    module = nn.Linear(3, 1, bias=False, dtype=torch.float64)

    def loss() -> Tensor:
        return (module(inputs) - targets).square().mean()

    options = FitOptions(iterations=800, learning_rate=0.05, weight_decay=0, average_decay=0.9)
    assert exhausted(fit(module, loss, options)) == 800
    exact = torch.linalg.lstsq(inputs, targets).solution
    torch.testing.assert_close(module.weight.detach().T, exact, rtol=0, atol=1e-4)
    assert not module.training


def test_fit_leaves_the_average_of_the_weights() -> None:
    """Three updates by hand: decay (1 + n)/(10 + n), the average starting at the initial weight."""
    module = nn.Linear(1, 1, bias=False)
    average = module.weight.item()
    options = FitOptions(iterations=3, learning_rate=0.1, weight_decay=0, average_decay=0.999)
    steps = fit(module, lambda: module.weight.sum(), options)
    for n, _ in enumerate(steps):
        decay = 0.0 if n == 0 else (1 + n) / (10 + n)
        average = decay * average + (1 - decay) * module.weight.item()
    assert module.weight.item() == pytest.approx(average, abs=1e-6)


def test_fit_refuses_a_loss_that_is_not_a_number() -> None:
    module = nn.Linear(1, 1)
    options = FitOptions(iterations=3, learning_rate=0.1, weight_decay=0, average_decay=0.9)
    with pytest.raises(NumericalError, match=r"nan at iteration 1; lower the learning rate"):
        exhausted(fit(module, lambda: module.weight.sum() * float("nan"), options))


def test_shaking_by_nothing_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    for name in ("MAX_ROTATION", "MAX_SHIFT", "MAX_SCALING", "MAX_PIXEL_NOISE"):
        monkeypatch.setattr(_objectives, name, 0.0)
    images = digits_data("heldout").images
    torch.testing.assert_close(_objectives.shaken(images, generator), images, rtol=0, atol=1e-5)


def test_shaking_fills_with_paper(generator: torch.Generator) -> None:
    blank = -torch.ones(500, 1, 8, 8)
    shaken = _objectives.shaken(blank, generator)
    assert abs(shaken.mean().item() + 1) < 0.01
    assert 0 < shaken.std().item() < _objectives.MAX_PIXEL_NOISE


def test_the_steps_of_the_denoising_loss_are_stratified(generator: torch.Generator) -> None:
    """Every batch meets every tenth of the noise schedule equally often."""
    seen: list[Tensor] = []

    class Recorder(nn.Module):
        def forward(self, x: Tensor, k: Tensor, class_labels: Tensor) -> object:
            seen.append(k)
            return type("Output", (), {"sample": torch.zeros_like(x)})

    loss = _objectives.denoising_loss(
        Recorder(),  # pyright: ignore[reportArgumentType]  # stands in for the network
        digits.noise_scheduler(),
        digits_data(),
        batch_size=100,
        wrong_probability=0.5,
        generator=generator,
    )
    # A model that predicts zero has the loss E ε² = 1.
    value = torch.stack([loss() for _ in range(50)]).mean().item()
    assert abs(value - 1) < 4.5 * (2 / (50 * 100 * 64)) ** 0.5
    for k in seen:
        assert (k // 100).bincount(minlength=10).tolist() == [10] * 10
