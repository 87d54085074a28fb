"""``hardy report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import DataDir


def report(
    run: Annotated[Path, typer.Argument(help="The folder of an evaluated run.")],
    data_dir: DataDir = None,
) -> None:
    """Write the report of an evaluated run again, from its records."""
    from hardy.report.run import write_run_report

    typer.echo(write_run_report(run, data_dir))
