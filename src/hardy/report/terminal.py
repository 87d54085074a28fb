"""The verdicts and the headline figures for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hardy.evaluation.scorecard import Scorecard
from hardy.report import formatting
from hardy.report.verdicts import LEVELS, verdicts

_COLORS = {"poor": "red", "fair": "yellow", "good": "green", "unknown": "dim"}


def print_scorecard(scorecard: Scorecard, console: Console) -> None:
    """Print the verdicts and headline figures, with how many warnings there are and how much was skipped."""
    # Text, not str: rich reads markup in a str, and names come from outside.
    console.print(Text(scorecard.subject.name, style="bold"))
    for verdict in verdicts(scorecard):
        line = Text("{} {:10} ".format(*LEVELS[verdict.level]), style=_COLORS[verdict.level])
        line.append(f"{verdict.subject}: ", style="bold default").append(verdict.words, style="default")
        console.print(line)
    table = Table(box=None, pad_edge=False)
    table.add_column("Figure")
    table.add_column("Value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("Examples", justify="right", no_wrap=True)
    for figure in map(formatting.figure, filter(lambda estimate: estimate.headline, scorecard.estimates)):
        name = Text(figure.question)
        detail = figure.name if figure.name != figure.question else figure.property
        name.append(f"\n{', '.join(filter(None, (detail, figure.setting, figure.dataset)))}", style="dim")
        for warning in figure.estimate.warnings:
            name.append(f"\n{figure.mark}: {warning}", style="yellow")
        value = " ".join(filter(None, (figure.mark[:1], figure.value, figure.direction[:1])))
        table.add_row(name, Text(value, style="bold"), figure.interval, figure.n)
    if table.row_count:
        console.print()
        console.print(table)
    counts = [
        _count(len(scorecard.estimates), "figure"),
        _count(len(scorecard.warnings), "warning"),
        f"{len(scorecard.skipped)} skipped",
    ]
    console.print(Text(", ".join(counts), style="yellow" if scorecard.warnings else "dim"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
