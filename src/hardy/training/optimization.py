"""Optimizers, learning-rate schedules and weight averaging."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hardy.training.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer; weight decay acts on matrices and kernels only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    match recipe.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
        case "adam":
            return torch.optim.Adam(groups, lr=recipe.learning_rate, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, nesterov=True, fused=True)


def learning_rate(recipe: Recipe, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of one step, from 0 to ``steps`` - 1."""
    rise = max(1, round(recipe.warm_up * steps))
    match recipe.schedule:
        case "constant":
            factor = 1.0
        case "exponential":
            factor = recipe.decay ** (step // steps_per_epoch)
        case "one_cycle" | "cosine":
            if step < rise:
                factor = (step + 1) / rise
            else:
                left = (steps - step) / (steps - rise)
                factor = left if recipe.schedule == "one_cycle" else 0.5 - 0.5 * math.cos(math.pi * left)
    return recipe.learning_rate * factor


def floating_state(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and the floating-point buffers (batch-norm statistics) of a model, by name."""
    return {name: value for name, value in model.state_dict().items() if value.is_floating_point()}


class Averaged:
    """Exponential moving average of a model's weights and batch-norm statistics.

    Early on the decay is lowered to (1 + step) / (10 + step), so that the initial weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in floating_state(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        current = floating_state(model)
        for name, average in self.state.items():
            average.lerp_(current[name], 1 - decay)
