"""The headline figures for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hardy.evaluation.scorecard import Scorecard
from hardy.report import formatting


def print_scorecard(scorecard: Scorecard, console: Console) -> None:
    """Print the headline figures, with how many warnings there are and how much was skipped."""
    # Text, not str: rich reads markup in a str, and names come from outside.
    table = Table(title=Text(scorecard.subject.name, style="bold"), title_justify="left", box=None, pad_edge=False)
    table.add_column("Figure")
    table.add_column("Value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("Examples", justify="right", no_wrap=True)
    for figure in map(formatting.figure, filter(lambda metric: metric.headline, scorecard.estimates)):
        name = Text(figure.name)
        name.append(f"\n{', '.join(filter(None, (figure.property, figure.setting, figure.dataset)))}", style="dim")
        table.add_row(
            name, Text(f"{figure.value} {figure.direction[:1]}".strip(), style="bold"), figure.interval, figure.n
        )
    console.print(table)
    counts = [
        _count(len(scorecard.estimates), "figure"),
        _count(len(scorecard.warnings), "warning"),
        f"{len(scorecard.skipped)} skipped",
    ]
    console.print(Text(", ".join(counts), style="yellow" if scorecard.warnings else "dim"))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
