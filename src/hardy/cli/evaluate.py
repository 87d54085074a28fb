"""``hardy evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hardy.cli.options import (
    AllowRandom,
    DataDir,
    Device,
    Json,
    Ood,
    OwnData,
    Resize,
    Resume,
    Seed,
    ValidationShare,
    print_json,
)
from hardy.errors import UsageError

if TYPE_CHECKING:
    from hardy.evaluation.dry_run import DryRun


def evaluate(
    subject: Annotated[
        str | None,
        typer.Argument(
            help="The folder of a run or a bundle, flagship, or package.module:callable.", show_default=False
        ),
    ] = None,
    logits: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="In place of a classifier, its logits or probabilities, with labels: an NPZ, Parquet or CSV file.",
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="The callable is a function from images to probabilities.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder to write; by default a run's own, or for flagship a new one in runs."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A safetensors file for package.module:callable.")] = None,
    property_: Annotated[
        list[str] | None, typer.Option("--property", help="Measure only this property; may be repeated.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="quick, standard or full: what costly properties may spend.")
    ] = "standard",
    limit: Annotated[int | None, typer.Option(help="At most so many examples per measurement.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
    data: OwnData = None,
    validation: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|FILE", help="Fit calibrators, prediction sets and thresholds on these images."),
    ] = None,
    validation_share: ValidationShare = "",
    ood: Ood = None,
    resize: Resize = "",
    data_dir: DataDir = None,
    adversarial: Annotated[
        list[Path] | None, typer.Option(help="Adversarial images of 'hardy attack' to score as well; may be repeated.")
    ] = None,
    norm: Annotated[str | None, typer.Option(help="The norm that attacks are held to; several by default.")] = None,
    eps: Annotated[
        list[str] | None,
        typer.Option(help="A radius in it, as in 0.3 or 8/255; may be repeated. By default what is usual."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images at once; the records do not depend on it.")] = 500,
    allow_random: AllowRandom = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured, and how long it would take at most.")
    ] = False,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Measure a classifier: records, scorecard and report."""
    from hardy.deployment import shipped
    from hardy.evaluation.evaluate import measure
    from hardy.evaluation.sources import sources_of
    from hardy.evaluation.subject import given_answers, load_subject
    from hardy.report import print_scorecard
    from hardy.report.run import write_run_report
    from hardy.runs import new_folder

    if (subject is None) == (logits is None):
        raise UsageError("name a classifier, or with --logits a file of its answers, and not both")
    if logits is not None:
        if data is not None or weights is not None or probabilities:
            raise UsageError("--logits takes the place of a classifier and its images; leave out the options for these")
        loaded, data = given_answers(logits), logits
    else:
        loaded = load_subject(subject or "", weights, probabilities=probabilities)
    out = out or loaded.run or (new_folder(str(subject)) if subject in shipped() else None)
    if out is None and not dry_run:
        raise UsageError("--out is missing: name the folder for the records and the report")
    sources = sources_of(
        loaded.data(data),
        validation=validation,
        ood=ood,
        data_dir=data_dir,
        resize=resize,
        validation_share=validation_share,
    )
    settings: dict[str, Any] = {
        "properties": property_ or (),
        "budget": budget,
        "limit": limit,
        "device": device,
        "adversarial": adversarial or (),
        "norm": norm,
        "eps": eps or None,
        "batch_size": batch_size,
        "allow_random": allow_random,
    }
    if dry_run or out is None:
        from hardy.evaluation.dry_run import dry_run as plan

        found = plan(loaded, sources, **settings)
        if json:
            print_json(found.as_json())
        else:
            _print_plan(found)
        return
    evaluation = measure(loaded, sources, out=out, seed=seed, resume=resume, **settings)
    page = write_run_report(out, data_dir, evaluation=evaluation)
    if json:
        typer.echo(evaluation.scorecard.to_json(), nl=False)
        return
    from rich.console import Console

    print_scorecard(evaluation.scorecard, Console())
    typer.echo(f"report: {page}")


def _print_plan(found: DryRun) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("Measurement", "On", "Images", "Seconds at most"):
        table.add_column(heading, justify="left" if heading in ("Measurement", "On") else "right")
    # Text, not str: rich reads markup in a str, and names come from outside.
    for (function, dataset), group in found.by_kind().items():
        examples = max(it.measurement.examples for it in group)
        name = Text(f"{function}, {len(group)} settings" if len(group) > 1 else function)
        table.add_row(name, Text(dataset), f"{examples:,}", f"{sum(it.seconds for it in group):,.1f}")
    console = Console()
    console.print(table)
    for skip in found.skipped:
        console.print(Text(f"left out: {skip.property}: {skip.reason}", style="dim"))
    console.print(
        f"{len(found.planned)} measurements, at most {found.seconds:,.0f} s of the classifier's time; intervals and "
        f"pictures come on top. {found.memory / 2**20:,.0f} MiB with all images and a batch loaded"
    )
