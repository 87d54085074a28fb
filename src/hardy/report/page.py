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
from hardy.report import formatting, pictures
from hardy.report.markdown import inline, table
from hardy.report.scale import references, scale
from hardy.report.svg import Drawing, draw
from hardy.report.verdicts import LEVELS, verdicts

_LONG_TABLE = 8
_NUMBER = re.compile(r"[\d.,%±+−–\s-]*|[\d.,]+ (%|to) .*")


class Section(NamedTuple):
    """One property of the report: its name in the scorecard, and what the property says about itself."""

    name: str
    title: str
    description: str
    charts: Sequence[Chart]


class _Panel(NamedTuple):
    """A chart with all that the template needs, by its kind.

    ``tags`` are those of a gallery's pictures, ``sheet`` says that one tag names each row, ``numeric`` which columns of
    a table are numbers, and ``mistakes`` is the id of the gallery that the cells of a matrix lead to.
    """

    chart: Chart
    kind: str
    id: str
    drawing: Drawing | None = None
    tags: tuple[str, ...] = ()
    sheet: bool = False
    numeric: tuple[bool, ...] = ()
    mistakes: str = ""


class _Part(NamedTuple):
    section: Section
    figures: list[formatting.Figure]
    panels: list[_Panel]

    def examples(self, estimate: Estimate) -> tuple[str, str] | None:
        """The id of the gallery that shows examples of what an estimate counts, and the tag that they begin with."""
        setting = estimate.setting
        corruption = str(setting.get("corruption", "")).replace("_", " ")
        wanted = f"{setting['class']} → " if "class" in setting else corruption
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
        # The worst of a property is the first.
        level_of={verdict.property: verdict.level for verdict in reversed(said)},
        figures=figures,
        headline=[(figure, scale(figure.estimate, known)) for figure in figures if figure.estimate.headline],
        parts=parts,
        titles={section.name: section.title for section in sections},
        long_table=_LONG_TABLE,
    )
    write_text(out, page)


def sections_html(title: str, lede: str, sections: Sequence[Section]) -> str:
    """Sections of charts and tables as a page; the same input gives the same bytes."""
    parts = [_Part(it, [], _panels(it.charts, f"{it.name}-chart")) for it in sections]
    return render("sections.html.j2", title=title, lede=lede, parts=parts)


def sections_markdown(title: str, lede: str, sections: Sequence[Section], page: str) -> str:
    """The same in Markdown: the text and the tables, and instead of a picture a link to the page that has it."""
    lines = [f"# {inline(title)}", inline(lede)]
    for section in sections:
        lines += [f"## {inline(section.title)}", *filter(None, [inline(section.description)])]
        for chart in section.charts:
            if isinstance(chart, Table):
                lines += [
                    f"**{inline(chart.title)}.** {inline(chart.caption)}".rstrip(),
                    table(chart.header, chart.rows),
                ]
            else:
                lines.append(f"*{inline(chart.title)}*: a picture in [{inline(page)}]({page}).")
    return "\n\n".join(lines) + "\n"


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
    environment.globals |= {"formatting": formatting, "pictures": pictures, "levels": LEVELS, "tag": tag}
    script = (files("hardy.report") / "templates" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(script=script, script_digest=digest, **content)


def tag(picture: Picture) -> str:
    """What a picture of a gallery is found by: its classes, or its caption without the star that marks a default."""
    return " → ".join(picture.classes) if picture.classes else picture.caption.removesuffix(" *")


def _panels(charts: Sequence[Chart], prefix: str) -> list[_Panel]:
    galleries = [f"{prefix}-{number}" for number, chart in enumerate(charts) if _shows_classes(chart)]
    return [_panel(chart, f"{prefix}-{number}", "".join(galleries[:1])) for number, chart in enumerate(charts)]


def _shows_classes(chart: Chart) -> bool:
    return isinstance(chart, Gallery) and any(picture.classes for row in chart.rows for picture in row)


def _panel(chart: Chart, id: str, mistakes: str) -> _Panel:
    match chart:
        case LineChart() | Histogram():
            return _Panel(chart, "drawing", id, drawing=draw(chart))
        case Matrix():
            return _Panel(chart, "matrix", id, mistakes=mistakes)
        case Gallery():
            tags = [[tag(picture) for picture in row] for row in chart.rows]
            sheet = len(chart.columns) > 1 and all(len(set(row)) == 1 for row in tags)
            return _Panel(chart, "gallery", id, tags=tuple(each for row in tags for each in row), sheet=sheet)
        case Table():
            columns = zip(*chart.rows, strict=True) if chart.rows else [()] * len(chart.header)
            numeric = tuple(all(_NUMBER.fullmatch(cell) for cell in column) for column in columns)
            return _Panel(chart, "table", id, numeric=numeric)
