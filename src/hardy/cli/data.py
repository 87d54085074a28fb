"""``hardy data``: which datasets there are, getting them, and checking them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hardy.cli.options import DataDir, Json, print_json

if TYPE_CHECKING:
    from hardy.data.entry import DatasetEntry

app = typer.Typer(no_args_is_help=True, help="List, fetch and verify datasets.")


@app.command("list")
def list_datasets(data_dir: DataDir = None, json: Json = False) -> None:
    """List the datasets, and where they are or why they are not at hand."""
    from hardy.data import DATASETS

    rows = [_describe(entry, data_dir) for entry in DATASETS.values()]
    if json:
        print_json(rows)
        return
    from rich.console import Console
    from rich.table import Column, Table

    texts = (Column(heading, overflow="fold") for heading in ("images", "at hand", "license"))
    table = Table(Column("dataset", no_wrap=True), *texts)
    for row in rows:
        where = row["reason"] or ", ".join(row["where"]) or "generated"
        table.add_row(f"{row['name']}\n{row['role']}", _sizes(row["splits"]), where, row["license"], end_section=True)
    Console().print(table)


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Datasets, as 'hardy data list' names them.")],
) -> None:
    """Download datasets into the cache: resumable, from several mirrors, checked against published hashes."""
    from hardy.data import DATASETS

    for entry in [DATASETS.find(name) for name in names]:
        typer.echo(f"{entry.name}: {_fetch(entry)}")


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Datasets; by default all that are at hand.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Hash the files at hand again and hold them against the published hashes."""
    from hardy.data import DATASETS
    from hardy.data.sources import find, is_at_hand, read
    from hardy.errors import DataError, HardyError

    entries = [DATASETS.find(name) for name in names] if names else list(DATASETS.values())
    broken = 0
    for entry in entries:
        for split, published in entry.splits.items():
            if not names and not is_at_hand(entry, split, data_dir):
                continue
            for file, path in zip(published.files, find(entry, split, data_dir), strict=True):
                try:
                    content = read(entry, file, path)
                except DataError as error:
                    broken += 1
                    typer.echo(f"broken    {error}")
                    continue
                state = "verified" if content.verified else "unverified"
                typer.echo(f"{state}  {content.sha256}  {path}")
    if broken:
        raise HardyError(f"{broken} of the files are not what was published; see above")


def _fetch(entry: DatasetEntry) -> str:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from hardy.data import download

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
            bars.update(tasks[name], completed=done, total=total)

        files = download.fetch(entry, show)
    if not entry.files:
        return "generated, nothing to download"
    return f"{len(files)} files in {files[0].parent}" if files else "already at hand"


def _describe(entry: DatasetEntry, data_dir: Path | None) -> dict[str, Any]:
    from hardy.data.loading import reason_missing
    from hardy.data.sources import find

    missing = {split: reason_missing(entry, split, data_dir) for split in entry.splits}
    found = [split for split, reason in missing.items() if reason is None]
    reason = next((reason for reason in missing.values() if reason), None)
    if reason and found:
        reason = f"only {', '.join(found)}; the rest is {reason}"
    return {
        "name": entry.name,
        "title": entry.title,
        "role": entry.role,
        "splits": entry.sizes,
        "at_hand": reason is None,
        "where": sorted({str(path.parent) for split in found for path in find(entry, split, data_dir)}),
        "reason": reason,
        "license": entry.license,
        "citation": entry.citation,
    }


def _sizes(splits: dict[str, int | None]) -> str:
    if len(splits) > 3:
        sizes = {size for size in splits.values() if size}
        return f"{len(splits)} splits of {', '.join(f'{size:,}' for size in sorted(sizes))}"
    return "\n".join(f"{split} {size:,}" if size else split for split, size in splits.items())
