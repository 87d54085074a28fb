"""Charts on Matplotlib axes, in sentinel colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardy.evaluation.charts import Floats, Histogram, LineChart, Matrix, Series
from hardy.report.palette import COLOURS, INK, MUTED, ON_STRONG, SERIES, TEXT, VARIABLES, Key

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_RIGHT, _WRONG = SERIES[0], SERIES[1]
_LONGEST_DIRECT_LABEL = 16
_LABEL_GAP = 0.07
_BAND_POINTS = 400
_MOST_CELLS_WITH_TEXT = 25
_LOG_ABOVE_SHARE = 0.5
_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def draw_lines(axes: Axes, chart: LineChart) -> tuple[Key, ...]:
    if chart.log_x:
        axes.set_xscale("log", nonpositive="clip")
    if chart.log_y:
        axes.set_yscale("log", nonpositive="clip")
    bars = [series for series in chart.series if series.style == "bars"]
    keys = []
    coloured = 0
    for series in chart.series:
        if series.style == "reference":
            axes.plot(series.x, series.y, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
            keys.append(Key(series.name, "--muted", "reference"))
            continue
        colour, dashed = SERIES[coloured % COLOURS], coloured >= COLOURS
        coloured += 1
        match series.style:
            case "bars":
                width = _bar_width(bars) / len(bars)
                offset = (bars.index(series) - (len(bars) - 1) / 2) * width
                axes.bar(series.x + offset, series.y, 0.92 * width, color=colour, alpha=0.5, linewidth=0)
                _whiskers(axes, series, series.x + offset, INK)
                mark = "area"
            case "points":
                _whiskers(axes, series, series.x, colour)
                inside = _within(series.x, chart.x_limits) & _within(series.y, chart.y_limits)
                # Unclipped: a point on the edge is shown whole.
                x, y = series.x[inside], series.y[inside]
                axes.plot(x, y, "o", color=colour, markersize=7, markeredgewidth=0, clip_on=False)
                mark = "point"
            case style:
                steps = style == "step"
                _band(axes, series, colour, steps=steps)
                drawstyle = "steps-post" if steps else "default"
                linestyle = (0, (5, 2)) if dashed else "solid"
                axes.plot(series.x, series.y, color=colour, drawstyle=drawstyle, linestyle=linestyle)
                mark = "dashed" if dashed else "line"
        keys.append(Key(series.name, VARIABLES[colour], mark))
    axes.set_xlim(chart.x_limits)
    axes.set_ylim(chart.y_limits)
    _dress(axes, chart.x_label, chart.y_label)
    axes.grid(visible=True)
    if chart.x_names:
        axes.set_xticks(range(len(chart.x_names)), chart.x_names, rotation=90, fontsize=TEXT - 2)
        axes.grid(visible=False, axis="x")
    if len(keys) == 1:
        return ()
    if _ends_apart(axes, chart.series):
        for series, key in zip(chart.series, keys, strict=True):
            _label_end(axes, series, key)
        return ()
    return tuple(keys)


def draw_histogram(axes: Axes, chart: Histogram) -> tuple[Key, ...]:
    shares = np.concatenate([np.asarray(share, np.float64) for share in chart.shares.values()])
    # One tall bin would flatten all others: a classifier that is sure of nearly everything gives such scores.
    logarithmic = shares.max() > _LOG_ABOVE_SHARE
    floor = 10.0 ** np.floor(np.log10(shares[shares > 0].min())) if logarithmic else 0.0
    keys = []
    for number, (name, share) in enumerate(chart.shares.items()):
        colour, dashed = SERIES[number % COLOURS], number >= COLOURS
        tops = np.maximum(share, floor)
        axes.stairs(tops, chart.edges, baseline=floor, fill=True, color=colour, alpha=0.14, linewidth=0)
        axes.stairs(tops, chart.edges, baseline=floor, color=colour, linewidth=1.6, linestyle="--" if dashed else "-")
        keys.append(Key(name, VARIABLES[colour], "dashed" if dashed else "area"))
    if logarithmic:
        axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    axes.margins(x=0)
    _dress(axes, chart.x_label, "Share of examples, log scale" if logarithmic else "Share of examples")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(visible=True, axis="y")
    return tuple(keys) if len(keys) > 1 else ()


def draw_matrix(axes: Axes, chart: Matrix) -> tuple[Key, ...]:
    from matplotlib.patches import Rectangle

    counts = np.asarray(chart.counts, np.float64)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    diagonal = np.eye(len(counts), dtype=bool)
    most_wrong = max(shares[~diagonal].max(initial=0.0), np.finfo(float).tiny)
    size = min(TEXT - 1, 330 / len(counts))
    for row, column in zip(*np.nonzero(counts), strict=True):
        right = row == column
        strength = shares[row, column] / (1.0 if right else most_wrong)
        cell = axes.add_patch(
            Rectangle(
                (column - 0.47, row - 0.47),
                0.94,
                0.94,
                facecolor=_RIGHT if right else _WRONG,
                alpha=0.1 + 0.75 * strength,
                linewidth=0,
            )
        )
        # A cell lies within the axes: asking each for its extent would take most of the time.
        cell.set_in_layout(False)
        if len(counts) <= _MOST_CELLS_WITH_TEXT:
            colour = ON_STRONG if strength > 0.5 else INK
            text = f"{int(counts[row, column]):,}"
            label = axes.text(column, row, text, color=colour, fontsize=size, ha="center", va="center_baseline")
            label.set_in_layout(False)
    places = range(len(counts))
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    axes.set_aspect("equal")
    long_names = max(map(len, chart.names)) > 3
    axes.set_xticks(places, chart.names, fontsize=size, rotation=90 if long_names else 0)
    axes.set_yticks(places, chart.names, fontsize=size)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, pad=5)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(chart.column_label, labelpad=8)
    axes.set_ylabel(chart.row_label, labelpad=8)
    return ()


def _dress(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, labelpad=6)
    # Upright, above its axis: nobody tilts their head to read it.
    axes.set_title(y_label, loc="left", fontsize=TEXT, color=MUTED, pad=10)
    for axis in (axes.xaxis, axes.yaxis):
        _tick(axis)


def _tick(axis: Axis) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator

    # Mathematical text and offsets would be set as outlines or far from their tick.
    low, high = axis.get_view_interval()
    if axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    elif high < 100 * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, _: _tick_words(value, logarithmic=axis.get_scale() == "log"))
    axis.set_minor_formatter(lambda *_: "")


def _tick_words(value: float, *, logarithmic: bool) -> str:
    small = logarithmic and value < 0.001
    mantissa, _, exponent = (f"{value:.0e}" if small else f"{value:g}").partition("e")
    mantissa = mantissa.replace("-", "−")
    if not exponent:
        return mantissa
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}×{power}"


def _bar_width(bars: Sequence[Series]) -> float:
    places = np.unique(np.concatenate([series.x for series in bars]))
    if len(places) < 2:
        return 1.0
    # Bars may stand at bin means, and two of those may nearly touch.
    return float(max(np.diff(places).min(), (places[-1] - places[0]) / 60))


def _within(values: Floats, limits: tuple[float, float] | None) -> NDArray[np.bool_]:
    low, high = limits or (-np.inf, np.inf)
    return (values >= low) & (values <= high)


def _whiskers(axes: Axes, series: Series, x: Floats, colour: str) -> None:
    if series.low is not None and series.high is not None:
        axes.vlines(x, series.low, series.high, color=colour, linewidth=1.2)


def _band(axes: Axes, series: Series, colour: str, *, steps: bool) -> None:
    if series.low is None or series.high is None:
        return
    keep = np.unique(np.linspace(0, len(series.x) - 1, min(len(series.x), _BAND_POINTS)).astype(int))
    axes.fill_between(
        series.x[keep],
        series.low[keep],
        series.high[keep],
        color=colour,
        alpha=0.16,
        linewidth=0,
        step="post" if steps else None,
    )


def _ends_apart(axes: Axes, all_series: Sequence[Series]) -> bool:
    """Whether each series can be named at its right end, without two names touching."""
    if any(
        series.style in ("bars", "points") or len(series.name) > _LONGEST_DIRECT_LABEL or not len(series.x)
        for series in all_series
    ):
        return False
    to_axes = axes.transScale + axes.transLimits
    ends = to_axes.transform(np.array([(series.x[-1], series.y[-1]) for series in all_series], np.float64))
    at_the_edge = (ends[:, 0] > 0.9) & (ends[:, 1] >= 0) & (ends[:, 1] <= 1)
    return bool(at_the_edge.all() and (np.diff(np.sort(ends[:, 1])) > _LABEL_GAP).all())


def _label_end(axes: Axes, series: Series, key: Key) -> None:
    colour = next(sentinel for sentinel, variable in VARIABLES.items() if variable == key.variable)
    axes.annotate(
        key.name,
        (float(series.x[-1]), float(series.y[-1])),
        xytext=(7, 0),
        textcoords="offset points",
        color=colour,
        va="center_baseline",
        annotation_clip=False,
    )
