"""Training: recipes as values, objectives, one loop, checkpoints."""

from hardy.training.loop import Fitted, Stopped, Update, fit
from hardy.training.losses import LOSSES, Batch, Loss, register_loss
from hardy.training.objectives import Objective, Weight
from hardy.training.recipe import Recipe
from hardy.training.recipes import RECIPES, register_recipe
from hardy.training.run import train
from hardy.training.selection import Split, validation_accuracy

__all__ = [
    "LOSSES",
    "RECIPES",
    "Batch",
    "Fitted",
    "Loss",
    "Objective",
    "Recipe",
    "Split",
    "Stopped",
    "Update",
    "Weight",
    "fit",
    "register_loss",
    "register_recipe",
    "train",
    "validation_accuracy",
]
