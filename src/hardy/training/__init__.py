"""Training: recipes as values, one loop, checkpoints."""

from hardy.training.loop import Fitted, Split, Stopped, Update, fit, validation_accuracy
from hardy.training.recipe import Recipe
from hardy.training.run import train

__all__ = ["Fitted", "Recipe", "Split", "Stopped", "Update", "fit", "validation_accuracy", "train"]
