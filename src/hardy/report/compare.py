"""Runs side by side, as a page and as Markdown: what differs first."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NamedTuple

from hardy.evaluation.compare import Comparison, Difference, identity
from hardy.evaluation.scorecard import Estimate
from hardy.files import write_text
from hardy.report import formatting
from hardy.report.page import render

Verdict = Literal["better", "worse", "differs", ""]
_MARKS = {"better": "▲ better", "worse": "▼ worse", "differs": "◆ differs", "": ""}

# The forest's axis is linear up to here, in shares, and logarithmic beyond: a tenth of a point and fifty fit on it.
_LINEAR = 0.001


class Entry(NamedTuple):
    """One figure of one run in words; ``difference`` and what follows are empty for the first run."""

    value: str
    interval: str
    difference: str = ""
    difference_interval: str = ""
    verdict: Verdict = ""
    paired: bool = True
    forest: tuple[float, float, float] | None = None

    @property
    def mark(self) -> str:
        return _MARKS[self.verdict]


class Row(NamedTuple):
    """One figure over the runs; an entry is None where a run did not measure it."""

    figure: formatting.Figure
    entries: tuple[Entry | None, ...]


def comparison_rows(comparison: Comparison) -> list[Row]:
    """One row per figure, property by property, in the order in which the figures first occur."""
    known = {(difference.identity, difference.run): difference for difference in comparison.differences}
    by_run = [{identity(estimate): estimate for estimate in card.estimates} for card in comparison.scorecards]
    estimates: dict[tuple[str, str, str, str], Estimate] = {}
    for run in by_run:
        estimates |= {key: estimate for key, estimate in run.items() if key not in estimates}
    order = list(dict.fromkeys(name for card in comparison.scorecards for name in card.properties))
    places = {name: place for place, name in enumerate(order)}
    return [
        Row(
            formatting.figure(estimate),
            tuple(
                _entry(run[key], known.get((key, place))) if key in run else None for place, run in enumerate(by_run)
            ),
        )
        for key, estimate in sorted(estimates.items(), key=lambda item: places.get(item[0][0], len(places)))
    ]


def write_comparison_html(path: Path, comparison: Comparison) -> None:
    """Replace ``path`` with the comparison as a page: one file, no network.

    Raises:
        HardyError: the file cannot be written.
    """
    ticks = [(_forest_place(points / 100), f"{points:+g}".replace("-", "−")) for points in (-100, -10, -1, 1, 10, 100)]
    write_text(path, render("compare.html.j2", comparison=comparison, rows=comparison_rows(comparison), ticks=ticks))


def comparison_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown: what differs, then a row per figure and a column per run, the main figures first."""
    return render("compare.md.j2", comparison=comparison, rows=comparison_rows(comparison))


def _entry(estimate: Estimate, difference: Difference | None) -> Entry:
    figure = formatting.figure(estimate)
    if difference is None:
        return Entry(figure.value, figure.interval)
    ends = () if difference.low is None or difference.high is None else (difference.low, difference.high)
    numbers = (difference.value, *ends)
    value, *texts = formatting.numbers(*numbers, share=figure.share)
    return Entry(
        figure.value,
        figure.interval,
        _signed(value) + (" points" if figure.share else ""),
        " to ".join(map(_signed, texts)) or "no interval",
        _verdict(difference, estimate.higher_is_better),
        difference.paired,
        _forest(estimate, numbers) if ends else None,
    )


def _forest(estimate: Estimate, numbers: tuple[float, ...]) -> tuple[float, float, float] | None:
    """Where value, low and high stand in percent of the forest's width, better to the right; None without bounds."""
    if estimate.bounds is None or not all(map(math.isfinite, numbers)):
        return None
    whole = (estimate.bounds[1] - estimate.bounds[0]) * (-1 if estimate.higher_is_better is False else 1)
    value, *ends = (_forest_place(number / whole) for number in numbers)
    return value, min(ends), max(ends)


def _forest_place(share: float) -> float:
    reach = math.log1p(min(abs(share), 1.0) / _LINEAR) / math.log1p(1 / _LINEAR)
    return 50 + math.copysign(50 * reach, share)


def _verdict(difference: Difference, higher_is_better: bool | None) -> Verdict:
    if not difference.found:
        return ""
    if higher_is_better is None:
        return "differs"
    return "better" if (difference.value > 0) == higher_is_better else "worse"


def _signed(number: str) -> str:
    return number if number.startswith("−") else f"+{number}"
