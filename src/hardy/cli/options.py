"""Options that several verbs share, and how JSON is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Seed = Annotated[int, typer.Option(help="Where all random numbers come from.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what was begun in --out.")]
Data = Annotated[str, typer.Option(help="A dataset's name, a folder with one subfolder per class, or an .npz file.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where to look for datasets first.", envvar="HARDY_DATA", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
