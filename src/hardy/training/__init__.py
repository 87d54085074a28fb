"""Training: recipes as values, losses, one loop, checkpoints."""

from hardy.training.loop import Fitted, Split, Stopped, Update, fit, validation_accuracy
from hardy.training.losses import LOSSES, Batch, Loss, register_loss
from hardy.training.recipe import Recipe
from hardy.training.recipes import RECIPES, register_recipe
from hardy.training.run import train

__all__ = [
    "LOSSES",
    "RECIPES",
    "Batch",
    "Fitted",
    "Loss",
    "Recipe",
    "Split",
    "Stopped",
    "Update",
    "fit",
    "register_loss",
    "register_recipe",
    "train",
    "validation_accuracy",
]
