"""``hardy list``.

Registries load torch, which takes seconds. So what hardy itself registers is also in ``listing.json``, which
``python -m hardy.cli.listing`` writes and a test holds against the registries; it is read before torch is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from hardy.cli.options import Json, print_json
from hardy.errors import unknown


def _description(item: Any) -> str:
    """What an item says of itself; else the first line of its function's docstring."""
    return getattr(item, "description", "") or (getattr(item, "function", item).__doc__ or "").split("\n")[0]


def _size(architecture: Any) -> str:
    from hardy.models import parameter_count

    return f"{parameter_count(architecture.build()):,} parameters"


def _corruption(item: Any) -> str:
    family = "MNIST-C" if item.published else "held out"
    return f"{item.description} ({family}; severities {len(item.severities)}, default {item.default})"


LISTING = Path(__file__).parent / "listing.json"


class Kind(NamedTuple):
    """Registries whose items are listed, as ``module:NAME``, and how an item is described."""

    registries: tuple[str, ...]
    describe: Callable[[Any], str] = _description


KINDS = {
    "recipes": Kind(("hardy.training.recipes:RECIPES",)),
    "losses": Kind(("hardy.training.losses:LOSSES",)),
    "models": Kind(("hardy.models:MODELS",), _size),
    "augmentations": Kind(("hardy.augmentations:AUGMENTATIONS", "hardy.augmentations:MIXINGS")),
    "corruptions": Kind(("hardy.corruptions:CORRUPTIONS",), _corruption),
    "properties": Kind(("hardy.evaluation.properties:PROPERTIES",)),
    "attacks": Kind(("hardy.attacks:ATTACKS",), lambda it: f"{it.title} ({', '.join(it.norms)}); {it.reference}"),
    "scores": Kind(("hardy.ood:DETECTORS",)),
    "outliers": Kind(("hardy.synthetic.outliers:OUTLIERS",)),
    "calibrators": Kind(("hardy.calibration:CALIBRATORS",)),
    "prediction-sets": Kind(("hardy.calibration.conformal:CONFORMAL",)),
    "datasets": Kind(("hardy.data:DATASETS",), lambda it: f"{it.title} ({it.role})"),
    "studies": Kind(("hardy.studies:STUDIES",)),
}


def registered(kind: str) -> dict[str, str]:
    """Names and descriptions of what there is of a kind."""
    return {
        name: KINDS[kind].describe(item)
        for module, _, registry in (place.partition(":") for place in KINDS[kind].registries)
        for name, item in getattr(import_module(module), registry).items()
        # An ensemble is made of others, so it has no size of its own.
        if (kind, name) != ("models", "ensemble")
    }


def list_(
    kind: Annotated[str, typer.Argument(help=" | ".join(KINDS))],
    json: Json = False,
) -> None:
    """What there is to choose from."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    # Whoever has registered something of their own has loaded torch for it.
    items = registered(kind) if "torch" in sys.modules else loads(LISTING.read_text(encoding="utf-8"))[kind]
    if json:
        print_json(items)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in items.items():
        table.add_row(f"[bold]{name}[/bold]", text)
    Console().print(table)


if __name__ == "__main__":
    found = {kind: registered(kind) for kind in KINDS}
    LISTING.write_text(dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
