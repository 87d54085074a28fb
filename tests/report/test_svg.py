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

from hardy.evaluation.charts import Gallery, Histogram, LineChart, Picture, Series
from hardy.report.pictures import data_uri, full_scale
from hardy.report.svg import COLORS, draw

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
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_every_chart_is_well_formed_themed_and_the_same_each_time(chart):
    drawing = draw(chart)
    root = ElementTree.fromstring(drawing.svg)
    assert root.tag == "svg"
    assert root.attrib["viewBox"].startswith("0 0 ")
    # Every color is a variable of the page: none would stay when the page turns dark.
    used = set(re.findall(r"color: ([^\"]*)", drawing.svg))
    assert used
    assert all(re.fullmatch(r"var\(--(series-[1-6]|muted)\)", color) for color in used)
    assert not re.search(r"#|http|<style|nan|inf", drawing.svg)
    assert draw(chart) == drawing


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_every_shape_is_drawn_in_the_style_of_the_page(chart):
    classes = {
        name for element in ElementTree.fromstring(draw(chart).svg).iter() for name in element.get("class", "").split()
    }
    # These are told apart by their place alone.
    assert classes - {"tick", "label", "area"} <= set(re.findall(r"\.([a-z]+)", STYLE))


@pytest.mark.parametrize("name", ["line", "step", "bars", "points", "logarithmic", "histogram"])
def test_what_is_drawn_lies_within_the_picture(name):
    root = ElementTree.fromstring(draw(CHARTS[name]).svg)
    for element in root.iter():
        for place, size in (("x", 480), ("cx", 480), ("y", 320), ("cy", 320)):
            assert 0 <= float(element.get(place, 0)) <= size, ElementTree.tostring(element)


def test_a_point_is_drawn_at_its_place():
    chart = lines(
        Series("one", np.array([0.0, 1.0]), np.array([0.0, 1.0]), style="points"), x_limits=(0, 1), y_limits=(0, 1)
    )
    root = ElementTree.fromstring(draw(chart).svg)
    first, last = (
        (float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter("circle") if dot.get("class") == "point"
    )
    box = next(root.iter("svg") if root.tag != "svg" else (each for each in root.iter("svg") if each is not root))
    left, top, width, height = (float(box.attrib[name]) for name in ("x", "y", "width", "height"))
    assert first == pytest.approx((left, top + height), abs=0.11)
    assert last == pytest.approx((left + width, top), abs=0.11)


def test_hovering_says_the_point_and_its_interval():
    unit = np.array([0.25])
    chart = lines(Series("one", unit, unit, unit / 2, unit * 2, style="points"))
    titles = [title.text for title in ElementTree.fromstring(draw(chart).svg).iter("title")]
    assert titles == ["across 0.25: one 0.25 (0.125 to 0.5)"]
    named = lines(Series("one", np.array([1.0]), unit, style="bars"), x_names=("fog", "rain"))
    assert "rain: one 0.25" in draw(named).svg


def test_text_is_escaped_and_never_mathematics():
    label = "<script>$x_1$</script>"
    svg = draw(LineChart("t", "c", label, label, (banded("line"),))).svg
    assert "<script" not in svg
    texts = [element.text for element in ElementTree.fromstring(svg).iter("text")]
    assert texts.count(label) == 2


def texts_of(chart) -> list[str | None]:
    return [element.text for element in ElementTree.fromstring(draw(chart).svg).iter("text")]


def test_one_series_needs_no_legend_and_two_do():
    assert draw(lines(banded("line"))).keys == ()
    assert [key.name for key in draw(lines(banded("line", "one"), banded("line", "other"))).keys] == ["one", "other"]


def test_a_legend_repeats_no_color_without_dashes():
    keys = draw(CHARTS["many series"]).keys
    assert len({(key.color, key.mark) for key in keys}) == len(keys) > COLORS


def test_a_logarithmic_axis_has_ticks_within_one_decade():
    chart = lines(Series("one", UNIT, 0.0015 + 0.005 * UNIT), log_y=True)
    assert {"0.002", "0.005"} <= set(texts_of(chart))


def test_one_tall_bin_makes_the_shares_logarithmic():
    assert "% of examples" in texts_of(CHARTS["histogram"])
    assert "% of examples, log scale" in texts_of(CHARTS["steep histogram"])


def test_points_outside_the_limits_are_left_out():
    def points(limits) -> int:
        return draw(lines(banded("points"), y_limits=limits)).svg.count('class="point"')

    assert (points((0.0, 1.0)), points((0.0, 0.5))) == (10, 5)


def theme(name: str) -> dict[str, str]:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)[:2]
    colors = dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", light))
    return colors if name == "light" else colors | dict(re.findall(r"(--[a-z0-9-]+): (#[0-9a-f]{6})", dark))


def linear(color: str) -> np.ndarray:
    value = np.array([*bytes.fromhex(color[1:])]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2, from 1 to 21."""
    dark, light = sorted(float(linear(color) @ [0.2126, 0.7152, 0.0722]) for color in (one, other))
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
def test_words_and_series_stand_out_from_the_page(name):
    colors = theme(name)
    for ground in ("--page", "--surface"):
        for words in ("--ink", "--muted", "--accent", "--good", "--bad"):
            assert contrast(colors[words], colors[ground]) >= 4.5, (words, ground)
        for number in range(1, COLORS + 1):
            assert contrast(colors[f"--series-{number}"], colors[ground]) >= 3, (number, ground)
    for level in ("good", "caution", "bad"):
        assert contrast(colors[f"--{level}"], colors[f"--{level}-surface"]) >= 4.5, level


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("eyes", SEEN_AS)
def test_series_stay_apart_for_every_kind_of_eyes(name, eyes):
    colors = theme(name)
    seen = [oklab(np.array(SEEN_AS[eyes]) @ linear(colors[f"--series-{number}"])) for number in range(1, COLORS + 1)]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 0.1


def decoded(picture: Picture, full: float = 1.0) -> np.ndarray:
    uri = data_uri(picture, full)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_a_picture_keeps_its_pixels():
    gray, color = np.linspace(0, 1, 12).reshape(3, 4), np.linspace(0, 1, 36).reshape(3, 4, 3)
    np.testing.assert_array_equal(decoded(Picture(gray, "")), np.rint(255 * gray))
    np.testing.assert_array_equal(decoded(Picture(color, "")), np.rint(255 * color))


def test_a_difference_has_its_sign_in_the_color_and_its_size_in_the_opacity():
    change = np.array([[-0.3, -0.15, 0.0, 0.15, 0.3]])
    pixels = decoded(Picture(change, "", signed=True), full=0.3)
    np.testing.assert_array_equal(pixels[0, :, 3], [255, 128, 0, 128, 255])
    assert len({tuple(pixel) for pixel in pixels[0, :2, :3]}) == 1
    assert pixels[0, 0, 2] > pixels[0, 0, 0]
    assert pixels[0, 4, 0] > pixels[0, 4, 2]


def test_a_colored_difference_shows_the_channel_that_changed_most():
    pixels = decoded(Picture(np.array([[[0.1, -0.4, 0.2]]]), "", signed=True), full=0.4)
    assert pixels[0, 0, 3] == 255
    assert pixels[0, 0, 2] > pixels[0, 0, 0]


def test_the_full_scale_is_the_largest_change_of_the_gallery():
    plain = Picture(np.ones((2, 2)), "")
    change = Picture(np.array([[0.1, -0.25]]), "", signed=True)
    assert full_scale(Gallery("t", "c", ("a", "b"), ((plain, change),))) == 0.25
    assert full_scale(Gallery("t", "c", ("a",), ((plain,),))) is None
