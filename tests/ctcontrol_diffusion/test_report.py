"""Pages: self-contained, well-formed, safe, and right about the numbers."""

import base64
import io
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ctcontrol_diffusion.presets import PRESETS
from ctcontrol_diffusion.report import blocks as b
from ctcontrol_diffusion.report.curves import Curve, Level, figure, figures
from ctcontrol_diffusion.report.page import page
from ctcontrol_diffusion.report.tiles import (
    Tiles,
    comparison,
    gallery,
    sheet,
    strip,
    tiles_of,
)
from ctcontrol_diffusion.run.album import moments, read_tiles, write_tiles
from ctcontrol_diffusion.run.directory import RunDirectory, create
from ctcontrol_diffusion.run.page import report, write_report
from ctcontrol_diffusion.run.table import compare, fact_sentences

VOID = {"meta", "img", "br", "link"}


class Checker(HTMLParser):
    """Collects text and references, and fails for tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.references: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def assert_self_contained(html: str) -> Checker:
    found = Checker(html)
    assert all(r.startswith(("data:image/png;base64,", "#")) for r in found.references)
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org)", html)
    assert not found.tags & {"script", "link", "iframe", "object"}
    return found


def images(rows: int, columns: int, channels: int = 1, size: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows * columns, channels, size, size, generator=generator)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize("channels", [1, 3])
def test_bare_images_survive_their_file(channels: int, tmp_path: Path) -> None:
    tiles = tiles_of(images(3, 4, channels), ["a", "b", "c"])
    assert tiles.pixels.shape == (3, 4, 8, 8, channels)
    write_tiles(tmp_path, 7, tiles)
    back = read_tiles(tmp_path, 7)
    assert back is not None
    assert back.prompts == tiles.prompts
    assert np.array_equal(back.pixels, tiles.pixels)
    assert moments(tmp_path) == [7]
    assert read_tiles(tmp_path, 8) is None
    (tmp_path / "000007.png").write_bytes(b"no picture")
    assert read_tiles(tmp_path, 7) is None


def test_pixels_are_rounded_and_rows_stay_rows() -> None:
    pictures = torch.zeros(4, 1, 2, 2)
    pictures[1] = 1.0
    pictures[2] = 0.5
    tiles = tiles_of(pictures, ["x", "y"])
    assert tiles.pixels[0, 1].max() == 255
    assert tiles.pixels[1, 0].max() == 128
    flat = np.asarray(opened(sheet(tiles)))
    assert flat.shape == (4, 4)
    assert (flat[:2, 2:] == 255).all()
    assert (flat[2:, :2] == 128).all()


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    tiles = tiles_of(images(1, 2), ["x"])
    board = np.asarray(opened(strip(tiles, gap=3)))
    assert board.shape == (48 + 3, 2 * (48 + 3), 4)
    assert (board[:48:6, :48:6, 0] == tiles.pixels[0, 0, :, :, 0]).all()
    assert (board[:, 48:51, 3] == 0).all()
    large = tiles_of(images(1, 1, 3, size=64), ["x"])
    assert opened(strip(large, gap=0)).size == (64, 64)


def test_a_comparison_shows_both_sides() -> None:
    tiles = tiles_of(images(2, 3), ["seven", "8"])
    black = Tiles(tiles.prompts, np.zeros_like(tiles.pixels))
    picture = np.asarray(opened(comparison(black, tiles, ("before", "after"))))
    half = picture.shape[1] // 2
    assert (picture[60:80, half + 20 : -20] > 40).mean() > (
        picture[60:80, 80 : half - 40] > 40
    ).mean()


def test_a_gallery_wraps_and_leaves_the_rest_empty() -> None:
    pixels = tiles_of(images(1, 7), [""]).pixels[0]
    picture = opened(gallery({"3": pixels[:5], "7": pixels[5:]}, columns=4))
    wide = opened(gallery({"3": pixels[:5], "7": pixels[5:]}, columns=5))
    assert picture.height > wide.height
    assert picture.width < wide.width
    assert picture.getpixel((picture.width - 20, picture.height - 40)) == (255, 255, 255)


def test_texts_are_made_safe() -> None:
    evil = '<script>alert("&")</script>'
    tiles = Tiles([evil], np.zeros((1, 1, 8, 8, 1), np.uint8))
    html = page(
        evil,
        evil,
        b.section(evil, b.note(evil), b.code(evil), b.details(evil, b.code(evil))),
        b.cards([b.Card(evil, evil, evil, evil, evil)]),
        b.table([evil], [b.Column(evil, (evil, evil))], [([evil], [evil, evil])]),
        b.facts([(evil, evil, evil)]),
        b.side_by_side(tiles, tiles, (evil, evil)),
        b.film(tiles, evil),
        figure(evil, Curve(evil, [0, 1], [0, 1]), Curve(evil, [0], [1]), levels=[Level(evil, 1)]),
    )
    found = assert_self_contained(html)
    assert found.text.count(evil) > 15
    assert "<script" not in html


def test_a_table_has_a_cell_for_every_part() -> None:
    html = b.table(
        ["sampler"],
        [b.Column("reward", ("before", "after")), b.Column("n")],
        [(["SDE"], ["1", "2", "3"]), (["ODE"], ["4", "5", "6"])],
    )
    Checker(html)
    assert html.count("<td") == 8
    assert 'colspan="2">reward' in html
    with pytest.raises(ValueError, match="zip"):
        b.table(["x"], [b.Column("y")], [(["x"], ["1", "2"])])
    assert b.table(["x"], [], []) == ""


def test_nothing_to_show_is_nothing() -> None:
    assert b.section("Empty", "", "") == ""
    assert b.facts([]) == ""
    assert figure("x", Curve("x", [0, 1], [None, None])) == ""
    assert figures("", "") == ""


def svg_of(html: str) -> ET.Element:
    match = re.search(r"<svg.*</svg>", html, re.DOTALL)
    assert match
    return ET.fromstring(match[0])


def test_curves_take_their_colors_from_the_page() -> None:
    html = figure(
        "Reward",
        Curve("a", [0, 1, 2], [0.0, None, 2.0], [0.1, None, 0.1]),
        Curve("b", [0, 1, 2], [1.0, 1.0, 1.0]),
        levels=[Level("ideal", 0.5)],
    )
    svg_of(html)
    for variable in ("--accent", "--second", "--soft", "--rule"):
        assert f"var({variable})" in html
    assert not re.search(r"#0[0-9]0[0-9]0[0-9]", html)
    assert "± 2 standard errors" in html
    assert "ideal" in html
    assert "DejaVu" not in html


def test_a_curve_is_the_same_at_every_repetition_and_shares_no_names() -> None:
    one, two = (figure(title, Curve("a", [0, 1], [0, 1])) for title in ("One", "Two"))
    assert figure("One", Curve("a", [0, 1], [0, 1])) == one
    names = [set(re.findall(r'clip-path="url\(#([^)]*)\)"', html)) for html in (one, two)]
    assert names[0]
    assert not names[0] & names[1]


def test_decades_are_logarithmic_if_allowed() -> None:
    steep = Curve("a", [0, 1, 2], [1e-4, 1.0, 1e4])
    assert figure("x", steep, log=True) != figure("x", steep)
    flat = Curve("a", [0, 1, 2], [1.0, 2.0, 3.0])
    assert figure("x", flat, log=True) == figure("x", flat)
    crossing = Curve("a", [0, 1, 2], [-1.0, 1.0, 1e4])
    assert figure("x", crossing, log=True) == figure("x", crossing)


def number(value: float | None, stderr: float | None = None) -> dict[str, float | None]:
    return {"value": value, "stderr": stderr}


EVALUATION: dict[str, Any] = {
    "facts": {"numbers": {"ideal_kl": number(0.75, 0.03)}, "texts": {"ideal_kl": "nats"}},
    "before": [
        {"labels": {"sampler": "SDE", "steps": 25}, "numbers": {"accuracy": number(0.5, 0.02)}},
        {"labels": {"sampler": "ODE", "steps": 25}, "numbers": {"accuracy": number(0.4, 0.02)}},
    ],
    "after": [
        {
            "labels": {"sampler": "SDE", "steps": 25},
            "numbers": {"accuracy": number(0.97, 0.01), "kl": number(2.5, 0.1)},
        },
    ],
}


def test_rows_are_matched_by_their_labels() -> None:
    both = compare(EVALUATION)
    assert both.labels == ["sampler", "steps"]
    assert both.numbers == ["accuracy", "kl"]
    assert both.rows == [
        (["SDE", "25"], [((0.5, 0.02), (0.97, 0.01)), ((None, None), (2.5, 0.1))]),
        (["ODE", "25"], [((0.4, 0.02), (None, None)), ((None, None), (None, None))]),
    ]
    assert compare({}).rows == []
    assert fact_sentences(EVALUATION) == ["ideal KL: 0.750 ± 0.030 (nats)"]
    assert fact_sentences({}) == []


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return create(tmp_path / "run", "digits", PRESETS["digits"], "0" * 64)


def add_record(run: RunDirectory, k: int) -> None:
    pair = {"mean": -1.0 / (k + 1), "stderr": 0.1}
    kl = {"mean": 0.1 * k, "stderr": 0.01}
    numbers = dict.fromkeys(("policy_loss", "clip_fraction", "gradient_norm", "value_loss"), 0.5)
    run.metrics.append(
        {"iteration": k, "images": 128 * (k + 1), "returns": pair, "reward": pair, "divergence": kl}
        | numbers
        | {"explained_variance": None, "timing": {"elapsed": 61.0 + k}}
    )


def test_the_page_of_a_run_grows_with_it(run: RunDirectory) -> None:
    empty = assert_self_contained(report(run))
    assert "No iteration is done yet." in empty.text
    for k in range(3):
        add_record(run, k)
        run.samples.mkdir(exist_ok=True)
        write_tiles(run.samples / "tiles", k, tiles_of(images(2, 3), ["0", "1"]))
    run.keep_evaluation(**EVALUATION)
    write_report(run)
    html = run.report.read_text()
    found = assert_self_contained(html)
    text = " ".join(found.text)
    assert "384 trajectories of 10 steps in 1:03 on cpu, 2 threads, seed 0." in text
    assert "0.970 ± 0.010" in text
    assert html.count('class="card"') == 2
    assert "python -m ctcontrol_diffusion.train digits" in text
    assert "ideal aligned model" in text
    assert html.count("<svg") == 7  # all but the explained variance, of which there is none
    assert html.count("data:image/png") == 2 * 2 + 2
    for data in re.findall(r"data:image/png;base64,([^\"]*)", html):
        opened(base64.b64decode(data)).verify()
    assert json.dumps(run.config.seed) in text


def test_without_movement_there_is_no_curve_of_it(run: RunDirectory) -> None:
    add_record(run, 0)
    html = report(run)
    assert "KL to the pretrained model" not in html
    assert "Reward" in html
