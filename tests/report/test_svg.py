from __future__ import annotations

import base64
import io
import itertools
import re
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from hardy.evaluation.charts import Gallery, Histogram, LineChart, Matrix, Picture, Series
from hardy.report.palette import COLOURS, VARIABLES
from hardy.report.pictures import data_uri, full_scale
from hardy.report.svg import draw

STYLE = (files("hardy.report") / "templates" / "style.css").read_text(encoding="utf-8")
UNIT = np.linspace(0.05, 0.95, 10)
DIAGONAL = Series("diagonal", np.array([0.0, 1.0]), np.array([0.0, 1.0]), style="reference")


def lines(*series: Series, **options) -> LineChart:
    return LineChart("title", "caption", "across", "upwards", series, **options)


def banded(style, name="one", shift=0.0) -> Series:
    y = np.clip(UNIT - shift, 0.001, 1)
    return Series(name, UNIT, y, y * 0.8, y * 1.2, style)


def histogram(*shares) -> Histogram:
    return Histogram(
        "title",
        "caption",
        "score",
        np.linspace(0, 1, 5),
        {f"set {number}": np.array(share) for number, share in enumerate(shares)},
    )


CHARTS = {
    "line": lines(banded("line")),
    "step": lines(banded("step"), banded("step", "two", 0.3)),
    "bars": lines(banded("bars"), DIAGONAL, x_limits=(0, 1), y_limits=(0, 1)),
    "grouped bars": lines(banded("bars"), banded("bars", "two", 0.3)),
    "one bar": lines(Series("one", np.array([0.5]), np.array([2.0]), style="bars")),
    "points": lines(banded("points"), DIAGONAL),
    "logarithmic": lines(banded("line"), banded("line", "two", 0.3), log_x=True, log_y=True),
    "logarithmic with zeros": lines(Series("one", UNIT, np.maximum(UNIT - 0.5, 0)), log_y=True),
    "logarithmic bars": lines(Series("one", UNIT, 10.0 ** np.arange(10), style="bars"), log_y=True),
    "not a number": lines(Series("one", UNIT, np.where(UNIT > 0.5, UNIT, np.nan))),
    "empty series": lines(Series("one", UNIT[:0], UNIT[:0]), DIAGONAL),
    "many series": lines(*(banded("line", f"series {number}", number / 30) for number in range(8))),
    "histogram": histogram([0.2, 0.3, 0.4, 0.1], [0.1, 0.1, 0.4, 0.4]),
    "steep histogram": histogram([0.999, 0.0005, 0.0005, 0], [0, 0.1, 0.4, 0.5]),
    "empty histogram": histogram([0, 0, 0, 0]),
    "one bin": Histogram("title", "caption", "score", np.full(5, 0.5), {"one": np.array([0, 0, 0, 1.0])}),
    "matrix": Matrix("title", "caption", "true", "said", ("0", "1", "2"), np.array([[9, 1, 0], [0, 0, 0], [0, 3, 9]])),
    "long names": Matrix("title", "caption", "true", "said", ("T-shirt", "ankle boot"), np.array([[9, 1], [0, 7]])),
    "foreign names": Matrix("title", "caption", "true", "said", ("猫", "犬"), np.array([[9, 1], [0, 7]])),
    "many classes": Matrix(
        "title",
        "caption",
        "true",
        "said",
        tuple(map(str, range(26))),
        90 * np.eye(26, dtype=int) + np.eye(26, k=3, dtype=int),
    ),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_every_chart_is_well_formed_themed_and_the_same_each_time(chart):
    drawing = draw(chart, "a-")
    root = ElementTree.fromstring(drawing.svg)
    assert root.tag == "svg"
    assert root.attrib["viewBox"].startswith("0 0 ")
    assert "var(--muted)" in drawing.svg
    # Every colour is a variable: none would stay when the page turns dark.
    assert not re.search(r"#[0-9a-f]{6}\b", drawing.svg)
    assert "http" not in drawing.svg
    assert "<style" not in drawing.svg
    assert draw(chart, "a-") == drawing


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_ids_are_the_pictures_own_and_references_hold(chart):
    svg = draw(chart, "a-").svg
    defined = re.findall(r' id="([^"]*)"', svg)
    assert all(name.startswith("a-") for name in defined)
    assert len(defined) == len(set(defined))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) == set(defined)


def test_text_is_escaped_and_never_mathematics():
    label = "<script>$x_1$</script>"
    svg = draw(LineChart("t", "c", label, label, (banded("line"),)), "a-").svg
    assert "<script" not in svg
    texts = [element.text for element in ElementTree.fromstring(svg).iter("text")]
    assert texts.count(label) == 2


def texts_of(chart) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(draw(chart, "a-").svg).iter("text")]


def test_series_that_end_apart_are_named_where_they_end():
    chart = lines(banded("line", "upper"), banded("line", "lower", 0.4))
    assert {"upper", "lower"} <= set(texts_of(chart))
    assert draw(chart, "a-").keys == ()


def test_series_that_end_together_have_a_legend():
    chart = lines(banded("line", "one"), banded("line", "other", 0.01))
    assert not {"one", "other"} & set(texts_of(chart))
    assert [key.name for key in draw(chart, "a-").keys] == ["one", "other"]


def test_a_legend_repeats_no_colour_without_dashes():
    keys = draw(CHARTS["many series"], "a-").keys
    assert len({(key.variable, key.mark) for key in keys}) == len(keys) > COLOURS


def test_a_logarithmic_axis_has_ticks_within_one_decade():
    chart = lines(Series("one", UNIT, 0.0015 + 0.005 * UNIT), log_y=True)
    assert {"0.002", "0.005"} <= set(texts_of(chart))


def test_one_tall_bin_makes_the_shares_logarithmic():
    assert "Share of examples" in texts_of(CHARTS["histogram"])
    assert "Share of examples, log scale" in texts_of(CHARTS["steep histogram"])


def test_points_outside_the_limits_are_left_out():
    def points(limits) -> int:
        return len(re.findall("<use [^>]*--series-1", draw(lines(banded("points"), y_limits=limits), "a-").svg))

    assert (points((0.0, 1.0)), points((0.0, 0.5))) == (10, 5)


def test_a_matrix_shows_its_counts_and_leaves_zeros_out():
    texts = texts_of(CHARTS["matrix"])
    assert texts.count("9") == 2
    assert texts.count("3") == 1
    assert texts.count("0") == 2  # its name, on both axes


def theme(name: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    colours = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", light))
    return colours if name == "light" else colours | dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", dark))


def linear(colour: str) -> np.ndarray:
    value = np.array([*bytes.fromhex(colour[1:])]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2, from 1 to 21."""
    dark, light = sorted(float(linear(colour) @ [0.2126, 0.7152, 0.0722]) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


# Full loss of one kind of cone: Machado, Oliveira and Fernandes 2009, table 1.
SEEN_AS = {
    "all cones": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Ottosson 2020: equal steps look about equal."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponents = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return opponents @ np.cbrt(cones @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("name", ["light", "dark"])
def test_every_variable_of_a_picture_is_in_both_themes(name):
    assert set(VARIABLES.values()) <= theme(name).keys()


@pytest.mark.parametrize("name", ["light", "dark"])
def test_words_and_series_stand_out_from_the_page(name):
    colours = theme(name)
    for ground in ("--page", "--surface"):
        for words in ("--ink", "--muted", "--accent", "--good", "--bad"):
            assert contrast(colours[words], colours[ground]) >= 4.5, (words, ground)
        for number in range(1, COLOURS + 1):
            assert contrast(colours[f"--series-{number}"], colours[ground]) >= 3, (number, ground)
    assert contrast(colours["--caution"], colours["--caution-surface"]) >= 4.5


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN_AS)
def test_series_stay_apart_for_every_kind_of_eyes(name, eyes):
    colours = theme(name)
    seen = [oklab(np.array(SEEN_AS[eyes]) @ linear(colours[f"--series-{number}"])) for number in range(1, COLOURS + 1)]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 0.1


def decoded(picture: Picture, full: float = 1.0) -> np.ndarray:
    uri = data_uri(picture, full)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_a_picture_keeps_its_pixels():
    grey, colour = np.linspace(0, 1, 12).reshape(3, 4), np.linspace(0, 1, 36).reshape(3, 4, 3)
    np.testing.assert_array_equal(decoded(Picture(grey, "")), np.rint(255 * grey))
    np.testing.assert_array_equal(decoded(Picture(colour, "")), np.rint(255 * colour))


def test_a_difference_has_its_sign_in_the_colour_and_its_size_in_the_opacity():
    change = np.array([[-0.3, -0.15, 0.0, 0.15, 0.3]])
    pixels = decoded(Picture(change, "", signed=True), full=0.3)
    np.testing.assert_array_equal(pixels[0, :, 3], [255, 128, 0, 128, 255])
    assert len({tuple(pixel) for pixel in pixels[0, :2, :3]}) == 1
    assert pixels[0, 0, 2] > pixels[0, 0, 0]
    assert pixels[0, 4, 0] > pixels[0, 4, 2]


def test_a_coloured_difference_shows_the_channel_that_changed_most():
    pixels = decoded(Picture(np.array([[[0.1, -0.4, 0.2]]]), "", signed=True), full=0.4)
    assert pixels[0, 0, 3] == 255
    assert pixels[0, 0, 2] > pixels[0, 0, 0]


def test_the_full_scale_is_the_largest_change_of_the_gallery():
    plain = Picture(np.ones((2, 2)), "")
    change = Picture(np.array([[0.1, -0.25]]), "", signed=True)
    assert full_scale(Gallery("t", "c", ("a", "b"), ((plain, change),))) == 0.25
    assert full_scale(Gallery("t", "c", ("a",), ((plain,),))) is None
