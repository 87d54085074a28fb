"""``report.html``: one file, no network, no script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hardy.evaluation.charts import Chart, Gallery, Histogram, LineChart, Matrix, Picture, Table
from hardy.evaluation.scorecard import Scorecard
from hardy.files import write_text
from hardy.report import formatting
from hardy.report.pictures import BRIGHTER, DARKER, data_uri, full_scale
from hardy.report.svg import Drawing, draw

_LONG_TABLE = 8
_NUMBER = re.compile(r"[\d.,%±+−–\s-]*|[\d.,]+ (%|to) .*")


class Section(NamedTuple):
    """One property of the report: its name in the scorecard, and what the property says about itself."""

    name: str
    title: str
    description: str
    charts: Sequence[Chart]


class _Tile(NamedTuple):
    source: str
    column: str
    caption: str
    alternative: str


class _Panel(NamedTuple):
    """A chart with all that the template needs; of ``drawing``, ``tiles`` and ``numeric`` only its own is set."""

    chart: Chart
    kind: str
    drawing: Drawing | None = None
    tiles: tuple[tuple[_Tile, ...], ...] = ()
    full_scale: float | None = None
    numeric: tuple[bool, ...] = ()


class _Part(NamedTuple):
    section: Section
    figures: list[formatting.Figure]
    panels: list[_Panel]


def write_report(out: Path, scorecard: Scorecard, sections: Sequence[Section]) -> None:
    """Replace ``out`` with the scorecard as a page, one section a property, in the order given.

    The same input gives the same bytes.

    Raises:
        HardyError: the file cannot be written.
    """
    figures = [formatting.figure(metric) for metric in scorecard.estimates]
    parts = [
        _Part(
            section,
            [figure for figure in figures if figure.metric.property == section.name],
            [_panel(chart, f"chart-{place}-{number}-") for number, chart in enumerate(section.charts)],
        )
        for place, section in enumerate(sections)
    ]
    titles = {section.name: section.title for section in sections}
    page = render(
        "report.html.j2",
        card=scorecard,
        figures=figures,
        headline=[figure for figure in figures if figure.metric.headline],
        parts=parts,
        titles=titles,
        long_table=_LONG_TABLE,
        darker=DARKER,
        brighter=BRIGHTER,
    )
    write_text(out, page)


def render(template: str, **content: Any) -> str:
    """A page from one of the templates; whatever is put in is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("hardy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(formatting=formatting, **content)


def _panel(chart: Chart, prefix: str) -> _Panel:
    match chart:
        case LineChart() | Histogram() | Matrix():
            return _Panel(chart, "drawing", drawing=draw(chart, prefix))
        case Gallery():
            return _gallery(chart)
        case Table():
            columns = zip(*chart.rows, strict=True) if chart.rows else [()] * len(chart.header)
            numeric = tuple(all(_NUMBER.fullmatch(cell) for cell in column) for column in columns)
            return _Panel(chart, "table", numeric=numeric)


def _gallery(chart: Gallery) -> _Panel:
    full = full_scale(chart)
    columns = chart.columns or ("",)
    # Without columns the rows mean nothing, and the pictures flow.
    rows = chart.rows if chart.columns else [(picture,) for row in chart.rows for picture in row]
    tiles = tuple(
        tuple(_tile(column, picture, full or 1.0) for column, picture in zip(columns, row, strict=True)) for row in rows
    )
    return _Panel(chart, "gallery", tiles=tiles, full_scale=full)


def _tile(column: str, picture: Picture, full: float) -> _Tile:
    alternative = ": ".join(filter(None, (column, picture.caption)))
    return _Tile(data_uri(picture, full), column, picture.caption, alternative)
