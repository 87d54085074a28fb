"""``hardy compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import Json, print_json
from hardy.errors import UsageError


def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders of evaluated runs; the others are compared with the first.")
    ],
    html: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
    json: Json = False,
) -> None:
    """Print runs side by side, with their differences from the first and the intervals of these."""
    if len(runs) < 2:
        raise UsageError("a comparison takes at least two runs")
    from hardy.evaluation.compare import compare_runs
    from hardy.report import comparison_markdown, write_comparison_html

    comparison = compare_runs(runs)
    if json:
        print_json(comparison.as_json())
    else:
        typer.echo(comparison_markdown(comparison), nl=False)
    if html is not None:
        write_comparison_html(html, comparison)
        typer.echo(f"page: {html}", err=True)
