"""``hardy train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import Data, DataDir, Device, Json, Resize, Resume, Seed, ValidationShare, print_json
from hardy.errors import UsageError


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name; 'hardy list recipes' shows them.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the recipe.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    data: Data = "mnist",
    resize: Resize = "",
    test_share: Annotated[
        str, typer.Option(metavar="SHARE", help="Set apart this share of --data for testing.", show_default=False)
    ] = "",
    validation_share: ValidationShare = "",
    data_dir: DataDir = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train a classifier by a recipe."""
    from hardy import training
    from hardy.data.loading import with_options

    chosen = training.RECIPES.find(recipe).with_settings(_parse(set_ or []))
    run = training.train(
        chosen,
        out,
        seed=seed,
        device=device,
        data=with_options(data, resize=resize, test=test_share, validation=validation_share),
        data_dir=data_dir,
        resume=resume,
    )
    if json:
        print_json(run.manifest["training"])
        return
    for network in run.manifest["training"]["networks"]:
        robust = f", under attack {network['robust_accuracy']:.1%}" if "robust_accuracy" in network else ""
        typer.echo(f"{network['name']}: validation accuracy {network['validation_accuracy']:.2%}{robust}")
        for note in network.get("notes", ()):
            typer.echo(f"note: {note}")
    typer.echo(f"weights: {run.weights}")
    typer.echo(f"next: hardy evaluate {out}")


def _parse(settings: list[str]) -> dict[str, str]:
    parsed = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting}: a setting is key=value, for example --set epochs=3")
        parsed[key] = value
    return parsed
