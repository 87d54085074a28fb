"""``report.html``: one file, no network; its one script is inside, and without it everything can still be read."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from hardy.evaluation.charts import Chart, Gallery, Histogram, LineChart, Matrix, Picture, Table
from hardy.evaluation.scorecard import Estimate, Scorecard
from hardy.files import write_text
from hardy.report import formatting
from hardy.report.markdown import inline
from hardy.report.pictures import BRIGHTER, DARKER, data_uri, full_scale
from hardy.report.scale import references, scale
from hardy.report.svg import Drawing, draw
from hardy.report.verdicts import LEVELS, verdicts

_LONG_TABLE = 8
_NUMBER = re.compile(r"[\d.,%±+−–\s-]*|[\d.,]+ (%|to) .*")
# What marks the default among the pictures of a row.
_STAR = " *"


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
    tag: str
    starred: bool


class _Panel(NamedTuple):
    """A chart with all that the template needs, by its kind.

    ``sheet`` says that each strip of a gallery is named by its ``tag`` and its pictures by their columns; ``mistakes``
    is the id of the gallery that the cells of a matrix lead to.
    """

    chart: Chart
    kind: str
    id: str
    drawing: Drawing | None = None
    strips: tuple[tuple[_Tile, ...], ...] = ()
    sheet: bool = False
    full_scale: float | None = None
    numeric: tuple[bool, ...] = ()
    mistakes: str = ""

    @property
    def tags(self) -> set[str]:
        return {tile.tag for strip in self.strips for tile in strip}


class _Part(NamedTuple):
    section: Section
    figures: list[formatting.Figure]
    panels: list[_Panel]

    def examples(self, estimate: Estimate) -> tuple[str, str] | None:
        """The id of the gallery that shows examples of what an estimate counts, and the tag that they begin with."""
        setting = estimate.setting
        wanted = (
            f"{setting['class']} → " if "class" in setting else str(setting.get("corruption", "")).replace("_", " ")
        )
        galleries = [panel for panel in self.panels if panel.kind == "gallery"]
        if not wanted:
            return (galleries[0].id, "") if galleries and "attack" in setting else None
        found = [panel.id for panel in galleries if any(tag.startswith(wanted) for tag in panel.tags)]
        return (found[0], wanted) if found else None


def write_report(out: Path, scorecard: Scorecard, sections: Sequence[Section]) -> None:
    """Replace ``out`` with the scorecard as a page, one section per property, in the order given.

    The same input gives the same bytes.

    Raises:
        HardyError: the file cannot be written.
    """
    figures = [formatting.figure(estimate) for estimate in scorecard.estimates]
    parts = [
        _Part(
            section,
            [figure for figure in figures if figure.estimate.property == section.name],
            _panels(section.charts, f"chart-{place}"),
        )
        for place, section in enumerate(sections)
    ]
    known = references()
    said = verdicts(scorecard)
    page = render(
        "report.html.j2",
        card=scorecard,
        verdicts=said,
        levels=LEVELS,
        # The worst of a property is the first.
        level_of={verdict.property: verdict.level for verdict in reversed(said)},
        figures=figures,
        headline=[(figure, scale(figure.estimate, known)) for figure in figures if figure.estimate.headline],
        parts=parts,
        titles={section.name: section.title for section in sections},
        long_table=_LONG_TABLE,
        darker=DARKER,
        brighter=BRIGHTER,
    )
    write_text(out, page)


def render(template: str, **content: Any) -> str:
    """One of the templates, with content that cannot be markup; in a page only the page's own script may run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def in_markdown(value: object) -> str:
        return value if isinstance(value, Markup) else inline(str(value))

    markdown = template.endswith(".md.j2")
    environment = Environment(
        loader=PackageLoader("hardy.report"),
        autoescape=not markdown,
        finalize=in_markdown if markdown else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["formatting"] = formatting
    script = (files("hardy.report") / "templates" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(script=script, script_digest=digest, **content)


def _panels(charts: Sequence[Chart], prefix: str) -> list[_Panel]:
    ids = [f"{prefix}-{number}" for number in range(len(charts))]
    mistakes = [
        id
        for id, chart in zip(ids, charts, strict=True)
        if isinstance(chart, Gallery) and any(picture.classes for row in chart.rows for picture in row)
    ]
    return [_panel(chart, id, mistakes[0] if mistakes else "") for id, chart in zip(ids, charts, strict=True)]


def _panel(chart: Chart, id: str, mistakes: str) -> _Panel:
    match chart:
        case LineChart() | Histogram():
            return _Panel(chart, "drawing", id, drawing=draw(chart))
        case Matrix():
            return _Panel(chart, "matrix", id, mistakes=mistakes)
        case Gallery():
            return _gallery(chart, id)
        case Table():
            columns = zip(*chart.rows, strict=True) if chart.rows else [()] * len(chart.header)
            numeric = tuple(all(_NUMBER.fullmatch(cell) for cell in column) for column in columns)
            return _Panel(chart, "table", id, numeric=numeric)


def _gallery(chart: Gallery, id: str) -> _Panel:
    full = full_scale(chart)
    columns = chart.columns or ("",)
    # Without columns the rows mean nothing, and the pictures flow.
    rows = chart.rows if chart.columns else [(picture,) for row in chart.rows for picture in row]
    strips = tuple(
        tuple(_tile(column, picture, full or 1.0) for column, picture in zip(columns, row, strict=True)) for row in rows
    )
    sheet = len(columns) > 1 and all(len({tile.tag for tile in strip}) == 1 for strip in strips)
    return _Panel(chart, "gallery", id, strips=strips, sheet=sheet, full_scale=full)


def _tile(column: str, picture: Picture, full: float) -> _Tile:
    alternative = ": ".join(filter(None, (column, picture.caption)))
    tag = " → ".join(picture.classes) if picture.classes else picture.caption.removesuffix(_STAR)
    return _Tile(data_uri(picture, full), column, picture.caption, alternative, tag, picture.caption.endswith(_STAR))
