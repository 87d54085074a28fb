"""Charts as SVG. Their colors are the page's CSS variables, so that one picture serves the light and the dark page."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardy.evaluation.charts import Floats, Histogram, LineChart, Series

COLORS = 6
"""How many series colors the page has; further series repeat them with a dashed line."""

# One unit is one CSS pixel.
_WIDTH, _HEIGHT = 480, 320
_CHARACTER = 6.8
_TOP, _RIGHT, _BELOW, _LABEL = 34, 14, 26, 20
_HOVER_POINTS = 60
_LOG_ABOVE = 50.0
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


class Key(NamedTuple):
    """One entry of a chart's legend: ``color`` is a CSS variable, ``mark`` line, dashed, reference, area or point."""

    name: str
    color: str
    mark: str


class Drawing(NamedTuple):
    """An ``<svg>`` element, and the legend to set beside it; empty where the chart needs none."""

    svg: str
    keys: tuple[Key, ...] = ()


class _Axis(NamedTuple):
    low: float
    high: float
    log: bool = False
    start: float = 0.0
    end: float = 1.0

    def place(self, values: ArrayLike) -> Floats:
        values, low, high = np.asarray(values, np.float64), self.low, self.high
        if self.log:
            values, low, high = np.log10(np.maximum(values, low)), math.log10(low), math.log10(high)
        return self.start + (values - low) / (high - low) * (self.end - self.start)

    def holds(self, values: Floats) -> NDArray[np.bool_]:
        return (values >= self.low) & (values <= self.high)


def draw(chart: LineChart | Histogram) -> Drawing:
    """Draw a chart; the same chart gives the same bytes."""
    lines = chart if isinstance(chart, LineChart) else _as_lines(chart)
    picture = Element("svg", {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "aria-hidden": "true"})
    keys = _draw(picture, lines, filled=lines is not chart)
    return Drawing(ElementTree.tostring(picture, encoding="unicode"), tuple(keys) if len(keys) > 1 else ())


def _as_lines(chart: Histogram) -> LineChart:
    """A histogram as steps, in percent."""
    shares = 100 * np.stack([np.asarray(share, np.float64) for share in chart.shares.values()])
    # One tall bin would flatten all others: a classifier that is sure of nearly everything gives such scores.
    log = bool(shares.max() > _LOG_ABOVE)
    floor = 10.0 ** math.floor(math.log10(shares[shares > 0].min())) if log else 0.0
    steps = np.maximum(np.concatenate([shares, shares[:, -1:]], 1), floor)
    low, high = float(chart.edges[0]), float(chart.edges[-1])
    return LineChart(
        title=chart.title,
        caption=chart.caption,
        x_label=chart.x_label,
        y_label="% of examples, log scale" if log else "% of examples",
        series=tuple(Series(name, chart.edges, y, style="step") for name, y in zip(chart.shares, steps, strict=True)),
        x_limits=(low, high) if high > low else (low - 0.5, high + 0.5),
        y_limits=(floor, (1.3 if log else 1.05) * float(shares.max()) or 1.0),
        log_y=log,
    )


def _draw(picture: Element, chart: LineChart, *, filled: bool) -> list[Key]:
    bars = [series for series in chart.series if series.style == "bars"]
    bar = _bar_width(bars) if bars else 0.0
    across = [*(series.x for series in chart.series), *(each.x + side * bar / 2 for each in bars for side in (-1, 1))]
    edges = [edge for series in chart.series for edge in (series.y, series.low, series.high) if edge is not None]
    x = _Axis(*(chart.x_limits or _limits(across, chart.log_x)), chart.log_x)
    y = _Axis(*(chart.y_limits or _limits(edges, chart.log_y, from_zero=bool(bars))), chart.log_y)
    x, y = _frame(picture, x, y, chart.x_label, chart.y_label, chart.x_names)
    box = {"x": x.start, "y": y.end, "width": x.end - x.start, "height": y.start - y.end}
    # A picture within the picture cuts what leaves the axes.
    inside = _add(picture, "svg", "", viewBox=" ".join(map(_number, box.values())), **box)
    keys: list[Key] = []
    for series in chart.series:
        key = _key(series, sum(key.mark != "reference" for key in keys), filled)
        keys.append(key)
        group = _add(inside, "g", style=f"color: var({key.color})")
        # Unclipped: a point on the edge is shown whole.
        above = _add(picture, "g", style=f"color: var({key.color})")
        if series.style == "bars":
            half = bar / len(bars) / 2
            middle = series.x + (2 * bars.index(series) - (len(bars) - 1)) * half
            lefts, rights, tops = x.place(middle - 0.92 * half), x.place(middle + 0.92 * half), y.place(series.y)
            base = float(y.place(max(y.low, 0.0)))
            for place in map(int, np.flatnonzero(np.isfinite(tops))):
                top, bottom = sorted((float(tops[place]), base))
                size = {"width": rights[place] - lefts[place], "height": bottom - top}
                _hover(_add(group, "rect", "bar", x=lefts[place], y=top, **size), chart, series, place)
            _add(group, "path", "whisker ink", d=_whiskers(series, x.place(middle), y))
        elif series.style == "points":
            _add(group, "path", "whisker", d=_whiskers(series, x.place(series.x), y))
            _dots(above, chart, series, x, y, "point", 3.5)
        else:
            low, high = (np.full(len(series.y), y.low), series.y) if filled else (series.low, series.high)
            if low is not None and high is not None:
                (along, above_it), (back, below_it) = (_placed(series, edge, x, y) for edge in (high, low))
                outline = _path(np.concatenate([along, back[::-1]]), np.concatenate([above_it, below_it[::-1]]))
                _add(group, "path", "band", d=outline)
            _add(group, "path", "line " + key.mark, d=_path(*_placed(series, series.y, x, y)))
            _dots(above, chart, series, x, y, "hit", 8.0)
    return keys


def _frame(
    picture: Element, x: _Axis, y: _Axis, x_label: str, y_label: str, names: Sequence[str]
) -> tuple[_Axis, _Axis]:
    """Draw grid, ticks and labels, and give both axes their places in the picture."""
    ticks = [(tick, _tick_words(tick, y.log)) for tick in _ticks(y)]
    below = max(map(len, names)) * 5.8 + 8 if names else _BELOW
    left, bottom = max((len(words) for _, words in ticks), default=0) * _CHARACTER + 8, _HEIGHT - below
    bottom -= _LABEL if x_label else 0
    x, y = x._replace(start=left, end=_WIDTH - _RIGHT), y._replace(start=bottom, end=_TOP)
    # Upright, above its axis: nobody tilts their head to read it.
    _text(picture, y_label, "label", left, 14)
    _text(picture, x_label, "label middle", (left + x.end) / 2, _HEIGHT - 6)
    for tick, words in ticks:
        place = float(y.place(tick))
        _add(picture, "path", "grid", d=f"M{x.start:.1f},{place:.1f}H{x.end}")
        _text(picture, words, "tick last", left - 6, place + 4)
    for place, words in enumerate(names):
        _text(picture, words, "tick last", float(x.place(place)) + 3, bottom + 8, "font-size: 10px", turned=True)
    for tick in () if names else _ticks(x):
        place = float(x.place(tick))
        _add(picture, "path", "grid", d=f"M{place:.1f},{bottom:.1f}V{y.end}")
        _text(picture, _tick_words(tick, x.log), "tick middle", place, bottom + 18)
    _add(picture, "path", "axis", d=f"M{x.start:.1f},{bottom:.1f}H{x.end}")
    return x, y


def _limits(values: Sequence[Floats], log: bool, *, from_zero: bool = False) -> tuple[float, float]:
    found = np.concatenate([np.asarray(value, np.float64) for value in values])
    found = found[np.isfinite(found) & (found > 0)] if log else found[np.isfinite(found)]
    if not len(found):
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = float(found.min()), float(found.max())
    if log:
        margin = (high / low) ** 0.05 if high > low else 2.0
        return low / margin, high * margin
    low = min(low, 0.0) if from_zero else low
    margin = 0.05 * (high - low) or 0.5
    return (low if from_zero and low == 0 else low - margin), high + margin


def _ticks(axis: _Axis) -> list[float]:
    low, high = axis.low, axis.high
    if axis.log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        factors = (1, 2, 5) if high < 100 * low else (1,)
        found = [factor * 10.0**power for power in powers[:: 1 + len(powers) // 8] for factor in factors]
        return [tick for tick in found if low * 0.999 <= tick <= high * 1.001]
    scale = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(factor * scale for factor in (1, 2, 2.5, 5, 10) if factor * scale * 6 >= (high - low) * 0.999)
    return [number * step for number in range(math.ceil(low / step - 1e-6), math.floor(high / step + 1e-6) + 1)]


def _tick_words(value: float, log: bool) -> str:
    mantissa, _, exponent = (f"{value:.0e}" if log and value < 0.001 else f"{value:.6g}").partition("e")
    mantissa = mantissa.replace("-", "−")
    if not exponent:
        return mantissa
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}×{power}"


def _key(series: Series, number: int, filled: bool) -> Key:
    if series.style == "reference":
        return Key(series.name, "--muted", "reference")
    mark = {"bars": "area", "points": "point"}.get(series.style, "area" if filled else "line")
    return Key(series.name, f"--series-{number % COLORS + 1}", "dashed" if number >= COLORS else mark)


def _bar_width(bars: Sequence[Series]) -> float:
    places = np.unique(np.concatenate([series.x for series in bars]))
    if len(places) < 2:
        return 1.0
    # Bars may stand at bin means, and two of those may nearly touch.
    return float(max(np.diff(places).min(), (places[-1] - places[0]) / 60))


def _whiskers(series: Series, x: Floats, y: _Axis) -> str:
    if series.low is None or series.high is None:
        return ""
    ends = zip(x, y.place(series.low), y.place(series.high), strict=True)
    return "".join(f"M{at:.1f},{low:.1f}V{high:.1f}" for at, low, high in ends if math.isfinite(low + high))


def _placed(series: Series, values: Floats, x: _Axis, y: _Axis) -> tuple[Floats, Floats]:
    across, up = x.place(series.x), y.place(values)
    return (np.repeat(across, 2)[1:], np.repeat(up, 2)[:-1]) if series.style == "step" else (across, up)


def _dots(group: Element, chart: LineChart, series: Series, x: _Axis, y: _Axis, kind: str, radius: float) -> None:
    shown = np.flatnonzero(x.holds(series.x) & y.holds(series.y))
    if kind == "hit" and len(shown) > _HOVER_POINTS:
        shown = shown[np.unique(np.linspace(0, len(shown) - 1, _HOVER_POINTS).astype(int))]
    across, up = x.place(series.x), y.place(series.y)
    for place in shown:
        _hover(_add(group, "circle", kind, cx=across[place], cy=up[place], r=radius), chart, series, int(place))


def _hover(mark: Element, chart: LineChart, series: Series, place: int) -> None:
    x, y, names = float(series.x[place]), float(series.y[place]), chart.x_names
    where = names[round(x)] if 0 <= round(x) < len(names) else f"{chart.x_label} {x:.4g}"
    interval = ""
    if series.low is not None and series.high is not None:
        interval = f" ({series.low[place]:.4g} to {series.high[place]:.4g})"
    _add(mark, "title").text = f"{where}: {series.name} {y:.4g}{interval}"


def _path(x: Floats, y: Floats) -> str:
    """Straight lines through the points; what is not finite leaves a gap, and what falls on one place is drawn once."""
    points, last = [], ""
    for across, up in zip(x, y, strict=True):
        here = f"{across:.1f},{up:.1f}" if math.isfinite(across + up) else ""
        if here and here != last:
            points.append(("L" if last else "M") + here)
        last = here
    return "".join(points)


def _text(parent: Element, text: str, kind: str, x: float, y: float, style: str = "", *, turned: bool = False) -> None:
    turn = {"transform": f"rotate(-90 {_number(x)} {_number(y)})"} if turned else {}
    _add(parent, "text", kind, x=x, y=y, **({"style": style} if style else {}), **turn).text = text


def _add(parent: Element, tag: str, kind: str = "", /, **attributes: str | float) -> Element:
    written = {name: value if isinstance(value, str) else _number(value) for name, value in attributes.items()}
    return ElementTree.SubElement(parent, tag, ({"class": kind} if kind else {}) | written)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
