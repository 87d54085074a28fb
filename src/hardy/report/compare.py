"""Runs side by side, as a page and as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from hardy.evaluation.compare import Comparison, Difference, identity
from hardy.evaluation.scorecard import Estimate
from hardy.files import write_text
from hardy.report import formatting
from hardy.report.markdown import inline, table
from hardy.report.page import render

Verdict = Literal["better", "worse", "differs", ""]
_MARKS = {"better": "▲ better", "worse": "▼ worse", "differs": "◆ differs", "": ""}


class Entry(NamedTuple):
    """One figure of one run in words; ``difference`` and what follows are empty for the first run."""

    value: str
    interval: str
    difference: str = ""
    difference_interval: str = ""
    verdict: Verdict = ""
    paired: bool = True

    @property
    def mark(self) -> str:
        return _MARKS[self.verdict]


class Row(NamedTuple):
    """One figure over the runs; an entry is None where a run did not measure it."""

    figure: formatting.Figure
    entries: tuple[Entry | None, ...]


def comparison_rows(comparison: Comparison) -> list[Row]:
    """One row a figure, in the order in which the figures first occur."""
    known = {(difference.identity, difference.run): difference for difference in comparison.differences}
    by_run = [{identity(estimate): estimate for estimate in card.estimates} for card in comparison.scorecards]
    estimates: dict[tuple[str, str, str, str], Estimate] = {}
    for run in by_run:
        estimates |= {key: estimate for key, estimate in run.items() if key not in estimates}
    return [
        Row(
            formatting.figure(estimate),
            tuple(
                _entry(run[key], known.get((key, place))) if key in run else None for place, run in enumerate(by_run)
            ),
        )
        for key, estimate in estimates.items()
    ]


def write_comparison_html(path: Path, comparison: Comparison) -> None:
    """Replace ``path`` with the comparison as a page: one file, no network, no script.

    Raises:
        HardyError: the file cannot be written.
    """
    by_property: dict[str, list[Row]] = {}
    for row in comparison_rows(comparison):
        by_property.setdefault(row.figure.property, []).append(row)
    write_text(path, render("compare.html.j2", comparison=comparison, by_property=by_property, legend=LEGEND))


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown: a table of one row a figure and a column a run, and what the marks mean."""
    header = ("Property", "Figure", "Setting", "Measured on", *comparison.names)
    rows = [
        (
            row.figure.property,
            row.figure.name,
            row.figure.setting,
            row.figure.dataset,
            *(_cell(entry) for entry in row.entries),
        )
        for row in comparison_rows(comparison)
    ]
    body = table(header, rows, numeric=range(4, len(header)))
    return f"{body}\n\n{inline(LEGEND)}\n"


LEGEND = (
    "Differences are to the first run, with their 95 % intervals. "
    "▲ better and ▼ worse mark an interval that excludes zero; ◆ differs, where neither direction is better. "
    "† marks runs that did not measure the same examples, so that their interval is wider."
)


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return "–"
    if not entry.difference:
        return f"{entry.value} ({entry.interval})"
    dagger = "" if entry.paired else "†"
    return f"{entry.value}; {entry.difference} ({entry.difference_interval}){dagger} {entry.mark}".rstrip()


def _entry(metric: Estimate, difference: Difference | None) -> Entry:
    figure = formatting.figure(metric)
    if difference is None:
        return Entry(figure.value, figure.interval)
    value, low, high = formatting.numbers(difference.value, difference.low, difference.high, share=figure.share)
    unit = " points" if figure.share else ""
    return Entry(
        figure.value,
        figure.interval,
        _signed(value) + unit,
        f"{_signed(low)} to {_signed(high)}",
        _verdict(difference, metric.higher_is_better),
        difference.paired,
    )


def _verdict(difference: Difference, higher_is_better: bool | None) -> Verdict:
    if not (difference.low > 0 or difference.high < 0):
        return ""
    if higher_is_better is None:
        return "differs"
    return "better" if (difference.low > 0) == higher_is_better else "worse"


def _signed(number: str) -> str:
    return number if number.startswith("−") else f"+{number}"
