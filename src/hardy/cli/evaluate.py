"""``hardy evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import DATA_HELP, AllowRandom, DataDir, Device, Json, Ood, Resize, Resume, Seed, ValidationShare
from hardy.errors import UsageError


def evaluate(
    subject: Annotated[
        str | None,
        typer.Argument(help="The folder of a run or a bundle, or package.module:callable.", show_default=False),
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
    out: Annotated[Path | None, typer.Option(help="The run folder to write; a run's own by default.")] = None,
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
    data: Annotated[
        str | None,
        typer.Option(help=f"{DATA_HELP} By default what a run was trained on, else mnist.", show_default=False),
    ] = None,
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
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Measure a classifier: records, scorecard and report."""
    from hardy.evaluation.evaluate import measure
    from hardy.evaluation.sources import sources_of
    from hardy.evaluation.subject import given_answers, load_subject
    from hardy.report import print_scorecard
    from hardy.report.run import write_run_report

    if (subject is None) == (logits is None):
        raise UsageError("name a classifier, or with --logits a file of its answers, and not both")
    if logits is not None:
        if data is not None or weights is not None or probabilities:
            raise UsageError("--logits takes the place of a classifier and its images; leave out the options for these")
        loaded, data = given_answers(logits), logits
    else:
        loaded = load_subject(subject or "", weights, probabilities=probabilities)
    out = out or loaded.run
    if out is None:
        raise UsageError("--out is missing: name the folder for the records and the report")
    evaluation = measure(
        loaded,
        sources_of(
            loaded.data(data),
            validation=validation,
            ood=ood,
            data_dir=data_dir,
            resize=resize,
            validation_share=validation_share,
        ),
        properties=property_ or (),
        budget=budget,  # type: ignore[arg-type]
        limit=limit,
        out=out,
        seed=seed,
        device=device,
        adversarial=adversarial or (),
        norm=norm,
        eps=eps or None,
        batch_size=batch_size,
        resume=resume,
        allow_random=allow_random,
    )
    page = write_run_report(out, data_dir, evaluation=evaluation)
    if json:
        typer.echo(evaluation.scorecard.to_json(), nl=False)
        return
    from rich.console import Console

    print_scorecard(evaluation.scorecard, Console())
    typer.echo(f"report: {page}")
