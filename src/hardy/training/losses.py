"""Losses, by name.

A loss is a function ``(model, batch, recipe, **settings) -> scalar``; its settings are the recipe's ``loss_settings``.
It runs the model itself, so that one that makes adversarial or mixed images needs nothing from the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.training.recipe import Recipe
from hardy.validation import Images, Logits, Targets, frozen_evaluation


class Batch(NamedTuple):
    """What one step trains on; ``progress`` is the share of all steps that is done."""

    images: Images
    targets: Targets
    rng: Randomness
    progress: float


Loss: TypeAlias = Callable[..., Tensor]


def cross_entropy(model: nn.Module, batch: Batch, recipe: Recipe) -> Tensor:
    """Mean cross-entropy with the recipe's label smoothing."""
    return _surprise(model(batch.images), batch.targets, recipe)


def trades(
    model: nn.Module,
    batch: Batch,
    recipe: Recipe,
    *,
    eps: float,
    steps: int,
    step_size: float,
    beta: float,
    ramp: float,
) -> Tensor:
    """Cross-entropy plus ``beta`` times the divergence of the answer within linf ``eps`` from the clean answer.

    ``steps`` and ``step_size`` (of the pixel range) are those of the search for the worst image; eps grows from 0 over
    the share ``ramp`` of training. Zhang et al., ICML 2019, arXiv:1901.08573.
    """
    threat = ThreatModel("linf", eps * min(1.0, batch.progress / ramp) if ramp else eps)
    clean = model(batch.images)
    worst = _most_divergent(model, batch, clean.detach(), threat, int(steps), step_size)
    return _surprise(clean, batch.targets, recipe) + beta * _divergence(model(worst), clean)


def _surprise(answer: Logits, targets: Targets, recipe: Recipe) -> Tensor:
    """Mean cross-entropy: the one place where targets, soft or not, meet logits."""
    return nn.functional.cross_entropy(answer, targets, label_smoothing=recipe.label_smoothing)


def _most_divergent(
    model: nn.Module, batch: Batch, clean: Logits, threat: ThreatModel, steps: int, step_size: float
) -> Images:
    current = threat.random_start(batch.images, batch.rng.fold("start"))
    # The search must not move batch-norm statistics, and gradients of the weights would be wasted.
    with frozen_evaluation(model):
        for _ in range(steps):
            current.requires_grad_(True)
            (gradient,) = torch.autograd.grad(_divergence(model(current), clean), current)
            current = threat.project(current.detach() + min(step_size, threat.eps) * gradient.sign(), batch.images)
    return current


def _divergence(answer: Logits, clean: Logits) -> Tensor:
    """The Kullback-Leibler divergence of ``answer`` from ``clean``, mean over the batch."""
    return nn.functional.kl_div(answer.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "trades": trades}
