"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Seed = Annotated[int, typer.Option(help="Where all random numbers come from.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what is in --out.")]
Data = Annotated[str, typer.Option(help="A dataset's name, a folder with one subfolder a class, or an .npz file.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where to look for datasets first.", envvar="HARDY_DATA", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]
