"""``hardy bundle``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hardy.cli.options import DataDir, Ood


def bundle(
    run: Annotated[Path, typer.Argument(help="The folder of a trained run.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    detector: Annotated[
        str | None,
        typer.Option(
            help="The OOD detector; 'hardy list scores' shows them. By default the score that reports name.",
            show_default=False,
        ),
    ] = None,
    target_refusal: Annotated[float, typer.Option(help="The share of validation images that may be refused.")] = 0.01,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="How often a prediction set may miss the true class; by default 0.005, or more for few images.",
            show_default=False,
        ),
    ] = None,
    ood: Ood = None,
    preprocessing: Annotated[
        str,
        typer.Option(
            help="mnist, as digits are brought to MNIST's form, or resize; by default as the validation images are.",
            show_default=False,
        ),
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Put a trained classifier, with all that it needs to answer or to abstain, into one folder."""
    from hardy.deployment import write_bundle
    from hardy.deployment.bundle import SCORECARD, check_free
    from hardy.deployment.fit import fit_bundle
    from hardy.ood import HEADLINE
    from hardy.report.bundle_card import bundle_card

    check_free(out)
    fitted = fit_bundle(
        run,
        detector=detector or HEADLINE,
        target_refusal=target_refusal,
        alpha=alpha,
        ood=ood or (),
        preprocessing=preprocessing,  # type: ignore[arg-type]
        data_dir=data_dir,
        report=lambda text: typer.echo(text, err=True),
    )
    scorecard = run / SCORECARD
    write_bundle(out, fitted, bundle_card(fitted.manifest), scorecard if scorecard.exists() else None)
    for it in fitted.manifest.refusal_estimates:
        typer.echo(f"{it.kind}: {it.rate:.1%} refused ({it.low:.1%} to {it.high:.1%})")
    worst = fitted.manifest.worst()
    typer.echo(
        f"of kinds that nothing was fitted on {fitted.manifest.mean_refusal():.1%} are refused on average, "
        f"in the worst {worst.rate:.1%}: {worst.kind}"
    )
    typer.echo(f"next: hardy predict {out} IMAGE…")
