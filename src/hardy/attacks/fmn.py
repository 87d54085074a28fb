"""FMN, fast minimum norm: gradient steps inside a ball whose radius follows the boundary."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.objectives import margin
from hardy.attacks.projections import project_l1_in_box
from hardy.attacks.public import register
from hardy.threats import NORMS, Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels

# By how much the step size and the rate of the radius fall over the run: to a hundredth, and to a thousandth of 1.
_LAST_STEP = 0.01
_LAST_RATE = 0.001
_TINY = 1e-12


@register(
    title="fast minimum norm",
    norms=NORMS,
    reference="Pintor, Roli, Brendel and Biggio, NeurIPS 2021, arXiv:2102.12827",
    search="smallest",
)
def fmn(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    steps: int = 100,
    step_size: float = 10.0,
    gamma: float = 0.05,
) -> Images:
    """Steps up the margin inside a ball whose radius shrinks while the classifier is fooled and grows while it is not.

    Until an image is fooled for the first time, its radius is the distance at which a flat boundary would lie.

    Args:
        steps: how many.
        step_size: the l2 length of the first step; it falls to a hundredth.
        gamma: by which share the radius changes at first; it falls to a thousandth.
    """
    result = images.clone()
    farthest = threat.distance((images < 0.5).to(images.dtype), images)
    radius, best = torch.ones_like(farthest), farthest
    found = torch.zeros_like(farthest, dtype=torch.bool)
    current = images
    for step in range(steps):
        fade = 0.5 * (1.0 + math.cos(math.pi * step / steps))
        length = step_size * (_LAST_STEP + (1.0 - _LAST_STEP) * fade)
        rate_now = _LAST_RATE + (gamma - _LAST_RATE) * fade

        logits, gradient = value_and_gradient(classifier, current, labels, margin)
        fooled = logits.argmax(1) != labels
        size = threat.distance(current, images)
        better = fooled & (size <= best)
        best = torch.where(better, size, best)
        result[better] = current[better]
        found |= fooled

        if threat.norm == "l0":
            narrower = torch.minimum((radius * (1.0 - rate_now)).floor(), radius - 1.0)
            wider = torch.maximum((radius * (1.0 + rate_now)).floor(), radius + 1.0)
            radius = torch.where(fooled, torch.minimum(narrower, best), wider).clamp_min(1.0)
        else:
            gap = margin(logits, labels).abs() / _dual_norm(gradient, threat.norm).clamp_min(_TINY)
            wider = torch.where(found, radius, size + gap) * (1.0 + rate_now)
            radius = torch.where(fooled, torch.minimum(radius * (1.0 - rate_now), best), wider)
        radius = torch.minimum(radius, farthest)

        moved = current + length * steepest(gradient, "l2") - images
        current = images + _into_ball(moved, images, radius, threat.norm, gradient)
    return result


def _into_ball(change: Tensor, reference: Images, radius: Tensor, norm: Norm, gradient: Tensor) -> Tensor:
    """Each change, float32 (N, C, H, W), to one of norm at most its own ``radius``, (N,), that stays in [0, 1].

    The change is clipped first, so that what the box forbids takes nothing from the radius. In l0 the pixels that are
    kept are those that, to first order, add most to the margin: one near the end of its range moves little and may
    matter much. On a small net this needs a third fewer pixels than keeping those that changed most.
    """
    inside = (reference + change).clamp(0.0, 1.0) - reference
    limit = radius.reshape(-1, 1, 1, 1)
    match norm:
        case "linf":
            return torch.minimum(torch.maximum(inside, -limit), limit)
        case "l2":
            size = inside.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
            return inside * (limit / size.clamp_min(_TINY)).clamp_max(1.0)
        case "l1":
            nearest = project_l1_in_box(change.flatten(1), reference.flatten(1), radius[:, None])
            return nearest.reshape(change.shape)
        case "l0":
            added = (inside * gradient).sum(1).masked_fill((inside == 0.0).all(1), -torch.inf)
            order = added.flatten(1).argsort(dim=1, descending=True, stable=True)
            keep = order.argsort(1) < radius[:, None]
            return inside * keep.reshape(len(change), 1, *change.shape[2:])


def _dual_norm(gradient: Tensor, norm: Norm) -> Tensor:
    order = {"linf": 1.0, "l2": 2.0, "l1": math.inf}[norm]
    return torch.linalg.vector_norm(gradient.flatten(1), order, dim=1)
