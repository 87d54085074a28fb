"""What a recipe leaves open about its networks, filled in from the images that they are trained on."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace

from hardy.models import MODELS
from hardy.training.recipe import Recipe


def fill_in(recipe: Recipe, shape: Sequence[int]) -> Recipe:
    """The recipe for images of ``shape``, (C, H, W): its networks get the ``channels`` and the ``size`` that they take.

    What the recipe sets itself stays, and so do arguments that are the network's own defaults.
    """
    if recipe.members:
        return replace(recipe, members=tuple(fill_in(member, shape) for member in recipe.members))
    channels, height, width = shape
    parameters = inspect.signature(MODELS.find(recipe.model).build).parameters
    found = {"channels": channels, "size": height if height == width else [height, width]}
    open_ones = {
        name: value
        for name, value in found.items()
        if name in parameters and name not in recipe.model_arguments and parameters[name].default != value
    }
    return replace(recipe, model_arguments={**recipe.model_arguments, **open_ones}) if open_ones else recipe
