"""``hardy study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import DataDir, Device, Json, Resume, Seed, print_json


def study(
    name: Annotated[str, typer.Argument(help="A study's name; 'hardy list studies' shows them.")],
    out: Annotated[Path, typer.Option(help="The run folder to write.")],
    model: Annotated[
        str | None, typer.Option(help="The recipe whose network is trained; the study's own by default.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="How many times each arm is trained; by default as often as the study wants.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="How long networks are trained, where a study leaves it open.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="quick, standard or full: how much is trained and measured.")
    ] = "standard",
    only: Annotated[list[str] | None, typer.Option(help="Only this part of the study; may be repeated.")] = None,
    hardened: Annotated[
        list[str] | None,
        typer.Option(help="A column of a hardened network: a recipe, or the folder of a run or bundle; repeatable."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many training images, and test images per figure.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    data_dir: DataDir = None,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train and measure several arms side by side: a table with intervals."""
    from hardy.progress import progress_bars
    from hardy.studies import STUDIES, Options, run_study

    chosen = STUDIES.find(name)
    options = Options(
        model=model or chosen.model,
        seeds=seeds if seeds is not None else (Options.seeds if chosen.takes_seeds else 1),
        seed=seed,
        budget=budget,  # type: ignore[arg-type]
        only=tuple(only or ()),
        limit=limit,
        epochs=epochs,
        hardened=tuple(hardened or ()),
        device=device,
        data_dir=data_dir,
    )
    with progress_bars("study") as draw:
        page = run_study(
            chosen,
            out,
            options,
            resume=resume,
            report=lambda now: draw(now.done, now.arms, now.arm),
            announce=lambda text: typer.echo(text, err=True),
        )
    if json:
        print_json(page.figures)
        return
    typer.echo(page.markdown.split("\n## ")[0].rstrip())
    typer.echo(f"\nall differences: {out / 'study.md'}")
