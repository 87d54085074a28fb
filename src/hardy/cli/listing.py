"""``hardy list``."""

from __future__ import annotations

from typing import Annotated

import typer

from hardy.cli.options import Json
from hardy.errors import unknown


def _recipes() -> dict[str, str]:
    from hardy.training.recipes import RECIPES

    return {name: recipe.description for name, recipe in RECIPES.items()}


def _properties() -> dict[str, str]:
    from hardy.evaluation.properties import PROPERTIES

    return {name: prop.description for name, prop in PROPERTIES.items()}


def _attacks() -> dict[str, str]:
    from hardy.attacks import ATTACKS

    return {name: f"{attack.title} ({', '.join(attack.norms)}); {attack.reference}" for name, attack in ATTACKS.items()}


def _corruptions() -> dict[str, str]:
    from hardy.corruptions import CORRUPTIONS

    return {
        name: f"{it.description} ({'MNIST-C' if it.published else 'held out'}; severities {len(it.severities)}, "
        f"default {it.default})"
        for name, it in CORRUPTIONS.items()
    }


def _scores() -> dict[str, str]:
    from hardy.ood import DETECTORS

    return {name: method.description for name, method in DETECTORS.items()}


def _outliers() -> dict[str, str]:
    from hardy.synthetic.outliers import OUTLIERS

    return {name: family.description for name, family in OUTLIERS.items()}


def _calibrators() -> dict[str, str]:
    from hardy.calibration import CALIBRATORS

    return {name: kind.description for name, kind in CALIBRATORS.items()}


def _prediction_sets() -> dict[str, str]:
    from hardy.calibration.conformal import CONFORMAL

    return {name: kind.description for name, kind in CONFORMAL.items()}


def _models() -> dict[str, str]:
    from hardy.models import MODELS, build_model, parameter_count

    single = [name for name in MODELS if name != "ensemble"]
    return {name: f"{parameter_count(build_model(name)):,} parameters" for name in single}


def _augmentations() -> dict[str, str]:
    from hardy.augmentations import AUGMENTATIONS, MIXINGS

    known = {**AUGMENTATIONS, **MIXINGS}
    return {name: (function.__doc__ or "").split("\n")[0] for name, function in known.items()}


def _datasets() -> dict[str, str]:
    from hardy.data import DATASETS

    return {name: f"{entry.title} ({entry.role})" for name, entry in DATASETS.items()}


def _studies() -> dict[str, str]:
    from hardy.studies import STUDIES

    return {name: study.description for name, study in STUDIES.items()}


KINDS = {
    "recipes": _recipes,
    "models": _models,
    "augmentations": _augmentations,
    "corruptions": _corruptions,
    "properties": _properties,
    "attacks": _attacks,
    "scores": _scores,
    "outliers": _outliers,
    "calibrators": _calibrators,
    "prediction-sets": _prediction_sets,
    "datasets": _datasets,
    "studies": _studies,
}


def list_(
    kind: Annotated[str, typer.Argument(help=" | ".join(KINDS))],
    json: Json = False,
) -> None:
    """What there is to choose from."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    items = KINDS[kind]()
    if json:
        import json as json_module

        typer.echo(json_module.dumps(items, indent=1, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in items.items():
        table.add_row(f"[bold]{name}[/bold]", text)
    Console().print(table)
