"""``hardy predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hardy.errors import DataError

if TYPE_CHECKING:
    from hardy.deployment.predict import Answer


_UNLIMITED = 1 << 16


def predict(
    bundle: Annotated[str, typer.Argument(help="The folder of a bundle, or flagship, which comes with hardy.")],
    images: Annotated[
        list[Path], typer.Argument(help="Image files, NPY or NPZ files; of these one may hold several images.")
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per image.")] = False,
    save_input: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save the 28x28 images that the network sees.")
    ] = None,
    polarity: Annotated[
        str,
        typer.Option(help="dark or light strokes, or auto, which looks; by default as the bundle says."),
    ] = "",
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="How many images an NPY or NPZ file may hold; by default 100,000.", show_default=False
        ),
    ] = None,
) -> None:
    """Answer with a class, a calibrated confidence and a prediction set, or abstain and say why."""
    from hardy.data.image_files import MAX_IMAGES
    from hardy.deployment import load

    loaded = load(bundle)
    answers = loaded.predictions(images, polarity=polarity, save_input=save_input, limit=limit or MAX_IMAGES)
    errors, rows = [], []
    for answer in answers:
        if answer.error:
            errors.append(answer.error)
        if json:
            import json as json_module

            typer.echo(json_module.dumps(answer.as_json(), ensure_ascii=False))
        elif not answer.error:
            rows.append(answer)
    _print_table(rows)
    if errors:
        raise DataError("\nhardy: ".join(errors))


def _print_table(answers: list[Answer]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not answers:
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("Image", "Answer", "Confidence", "Prediction set", "OOD percentile", "Why it abstains"):
        table.add_column(heading, justify="right" if heading in ("Confidence", "OOD percentile") else "left")
    for answer in answers:
        # Text, not str: rich reads markup in a str, and names come from outside.
        row: list[Any] = [
            Text(answer.image),
            Text(answer.answer or "abstains", style="bold" if answer.answer else "yellow"),
            "–" if answer.confidence is None else f"{answer.confidence:.2%}",
            Text("–" if answer.best is None else "{" + ", ".join(answer.prediction_set) + "}"),
            "–" if answer.ood_score_percentile is None else f"{answer.ood_score_percentile:.1f}",
            Text("; ".join(answer.reasons)),
        ]
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        # A pipe has no width, so nothing is cut or wrapped there.
        console = Console(width=_UNLIMITED)
    console.print(table)
    console.print(
        Text("OOD percentile: the share of validation images with a lower OOD score, in percent.", style="dim")
    )
