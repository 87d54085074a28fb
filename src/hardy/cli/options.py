"""Options that several verbs share, and how JSON is printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Seed = Annotated[int, typer.Option(min=0, help="Where all random numbers come from.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, …")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what was begun in --out.")]
DATA_HELP = "A dataset's name, a folder with one subfolder per class, or an .npz file."
Data = Annotated[str, typer.Option(help=DATA_HELP)]
OwnData = Annotated[
    str | None, typer.Option(help=f"{DATA_HELP} By default what a run was trained on, else mnist.", show_default=False)
]
Resize = Annotated[
    str,
    typer.Option(metavar="WIDTHxHEIGHT", help="Resize and crop the images of folders and files.", show_default=False),
]
Ood = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[near:|far:][NAME=]FOLDER|FILE",
        help="Images that belong to no class, of a folder, an .npz or .npy file, or a dataset/split; may be repeated. "
        "Those that are called near, and those that are called far, get a mean.",
    ),
]
ValidationShare = Annotated[
    str, typer.Option(metavar="SHARE", help="Set apart this share of --data for fitting.", show_default=False)
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where to look for datasets first.", envvar="HARDY_DATA", show_default=False)
]
AllowRandom = Annotated[
    bool, typer.Option("--allow-random", help="Take a classifier that answers differently each time.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")]


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output."""
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
