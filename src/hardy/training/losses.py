"""Losses, by name.

A loss is a function ``(model, images, labels, rng, recipe) -> scalar``. It runs the model itself, so that one that
makes adversarial or mixed images needs nothing from the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from hardy.contracts import Images, Labels
from hardy.randomness import Randomness
from hardy.training.recipe import Recipe

Loss: TypeAlias = Callable[[nn.Module, Images, Labels, Randomness, Recipe], Tensor]


def cross_entropy(model: nn.Module, images: Images, labels: Labels, rng: Randomness, recipe: Recipe) -> Tensor:  # noqa: ARG001
    """Mean cross-entropy with the recipe's label smoothing."""
    return nn.functional.cross_entropy(model(images), labels, label_smoothing=recipe.label_smoothing)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}
