"""``hardy demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import DataDir, Seed

RECIPES = ("compact", "compact-ensemble")
SHIPPED = "flagship"


def demo(
    out: Annotated[Path, typer.Option(help="The folder for the runs and the comparison.")] = Path("runs/demo"),
    seed: Seed = 0,
    data_dir: DataDir = None,
) -> None:
    """Train two plain networks, and measure and compare them and the flagship. Continues what was begun."""
    from rich.console import Console

    from hardy.deployment import shipped
    from hardy.evaluation.compare import compare_runs
    from hardy.evaluation.evaluate import measure
    from hardy.evaluation.sources import sources_of
    from hardy.evaluation.subject import load_subject
    from hardy.report import print_scorecard, write_comparison_html
    from hardy.report.run import write_run_report
    from hardy.training import train

    console = Console()
    folders = [out / name for name in (*RECIPES, SHIPPED)]
    pages = []
    for folder in folders:
        if folder.name in RECIPES:
            train(folder.name, folder, seed=seed, data_dir=data_dir, resume=True)
            subject = load_subject(folder)
        else:
            subject = load_subject(shipped()[SHIPPED])
        sources = sources_of(data_dir=data_dir)
        evaluation = measure(subject, sources, out=folder, seed=seed, resume=True)
        pages.append(write_run_report(folder, data_dir, evaluation=evaluation))
        print_scorecard(evaluation.scorecard, console)
    comparison = out / "compare.html"
    write_comparison_html(comparison, compare_runs(folders))
    for page in [*pages, comparison]:
        typer.echo(f"report: {page}")
