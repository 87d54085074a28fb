"""What training saw besides the images that it is measured on later: by that, an evaluation marks its figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardy.augmentations import Steps
from hardy.data import load_dataset
from hardy.training.objectives import Objective
from hardy.training.outliers import families_of, is_synthetic
from hardy.training.recipe import Recipe

# Augmentations that do what a family of corruptions of another name does.
_FAMILIES = {
    "affine": ("rotate", "shear", "scale", "translate"),
    "shift": ("translate",),
    "augmix": ("rotate", "shear", "translate"),
}


def seen_in_training(recipe: Recipe, data: str, data_dir: str | Path | None = None) -> dict[str, Any]:
    """What training saw besides its own dataset, as JSON values, by which an evaluation marks its figures.

    Returns:
        ``datasets`` with their hashes; ``outlier_families``; ``augmentations``, with the families of corruptions that
        they imitate.
    """
    sources = sorted({str(it.settings["source"]) for one in recipe.networks for it in _exposed(one)})
    named = [source for source in sources if not is_synthetic(source)]
    augmented = {name for one in recipe.networks for name in _names(one.augmentation)}
    augmented |= {
        name for one in recipe.networks for it in one.objectives for name in _names(it.settings.get("augmentation", {}))
    }
    augmented |= {"augmix" for one in recipe.networks for it in one.objectives if it.loss == "consistency"}
    imitated = {family for name in augmented for family in _FAMILIES.get(name, (name,))}
    return {
        "datasets": {source: load_dataset(source, data_dir).sha256 for source in [f"{data}/train", *named]},
        "outlier_families": sorted({it for source in {*sources} - {*named} for it in families_of(source)}),
        "augmentations": sorted(imitated),
    }


def _exposed(recipe: Recipe) -> Iterator[Objective]:
    return (objective for objective in recipe.objectives if "source" in objective.settings)


def _names(steps: Steps) -> Iterator[str]:
    for key, settings in steps.items():
        name = key.partition(":")[0]
        if name == "one_of":
            yield from _names({inner: it for inner, it in settings.items() if inner != "probability"})
        else:
            yield name
