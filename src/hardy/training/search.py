"""The attack inside training: a few projected steps up a loss, in any norm that has a gradient step.

It is no measurement. It may be weak where a measurement may not; what it finds only has to be worth training on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hardy.attacks.attack import steepest
from hardy.attacks.projections import project_l1_in_box
from hardy.models import straight_through
from hardy.threats import ThreatModel
from hardy.validation import Images, Logits, frozen_evaluation

# In l1 a step is spread over this share of the pixels: over one pixel it would be all or nothing, over all it is lost.
_SHARE_OF_PIXELS = 1 / 40

Objective: TypeAlias = Callable[[Logits], Tensor]


def worst_images(
    model: nn.Module,
    images: Images,
    threat: ThreatModel,
    objective: Objective,
    start: Images,
    *,
    steps: int,
    step_size: float,
) -> Images:
    """Climb ``objective`` from ``start`` inside the ball around ``images``; the last image, float32 (N, C, H, W).

    The model is in evaluation mode meanwhile, as the search must not move batch-norm statistics, and its parameters
    are frozen, as their gradients would be wasted. Gradients pass straight through input ramps.

    Args:
        model: is left in the modes that it was in.
        images: float32 (N, C, H, W) in [0, 1].
        threat: linf, l2 or l1.
        objective: from logits to a scalar in which examples add up.
        start: inside the ball.
        steps: how many.
        step_size: length of a step in the norm of the threat model.
    """
    current = start
    with frozen_evaluation(model), straight_through(model):
        for _ in range(steps):
            gradient = input_gradient(model, current, objective)
            current = step_up(current, gradient, images, threat, step_size)
    return current


def input_gradient(model: nn.Module, images: Images, objective: Objective) -> Tensor:
    """The gradient of ``objective`` with respect to the images."""
    images = images.detach().requires_grad_(True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(model(images)), images)
    return gradient


def step_up(current: Images, gradient: Tensor, images: Images, threat: ThreatModel, step_size: float) -> Images:
    """``current`` moved along the steepest direction, then put back into the ball around ``images`` and into [0, 1]."""
    if threat.norm != "l1":
        return threat.project(current + step_size * steepest(gradient, threat.norm), images)
    moved = current + step_size * _spread(gradient, current)
    change = project_l1_in_box((moved - images).flatten(1), images.flatten(1), threat.eps)
    return (images + change.reshape(images.shape)).clamp(0.0, 1.0)


def union_of_worst(candidates: Sequence[Images], losses: Sequence[Tensor]) -> Images:
    """Of each example the candidate with the largest loss, float32 (N,) per candidate."""
    best = torch.stack(list(losses)).argmax(0)
    return torch.stack(list(candidates))[best, torch.arange(len(best), device=best.device)]


def _spread(gradient: Tensor, current: Images) -> Tensor:
    """A direction of l1 norm 1: evenly along the largest gradients of pixels that have room left."""
    flat, pixels = gradient.flatten(1), current.flatten(1)
    room = torch.where(flat > 0, pixels < 1, pixels > 0)
    count = max(1, round(flat.shape[1] * _SHARE_OF_PIXELS))
    places = (flat.abs() * room).topk(count, dim=1).indices
    direction = torch.zeros_like(flat).scatter_(1, places, flat.gather(1, places).sign() / count)
    return direction.reshape(gradient.shape)
