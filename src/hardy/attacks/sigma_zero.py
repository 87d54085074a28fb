"""sigma-zero: as few pixels as possible.

Cinà, Villani, Pintor, Schönherr, Biggio and Pelillo, ICLR 2025, arXiv:2402.01879.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hardy.attacks.attack import value_and_gradient
from hardy.attacks.objectives import margin
from hardy.attacks.public import register
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels, Logits

_MOMENTS = (0.9, 0.999)
_LAST_STEP = 0.1


@register(
    title="sigma-zero, the fewest pixels in 1,000 steps",
    norms=("l0",),
    reference="Cinà et al., ICLR 2025, arXiv:2402.01879",
    search="smallest",
)
def sigma_zero(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    steps: int = 1000,
    step_size: float = 1.0,
    sigma: float = 1e-3,
    threshold: float = 0.3,
    threshold_step: float = 0.01,
) -> Images:
    """Descends the margin and a smooth count of the changed pixels together, and undoes small changes at each step.

    The paper counts values; here a pixel counts once, in whichever channels it changes.

    Args:
        steps: how many, with Adam.
        step_size: of the first step; it falls to a tenth along a cosine.
        sigma: a squared change of this size counts as half a pixel.
        threshold: changes below it are undone; it rises while the classifier is fooled, and falls while it is not.
        threshold_step: by how much, in units of the step's length.
    """
    change, first, second = (torch.zeros_like(images) for _ in range(3))
    best, fewest = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
    limit = torch.full_like(fewest, threshold)
    length = step_size
    for step in range(steps + 1):
        points = images + change
        logits, towards = value_and_gradient(classifier, points, labels, _shortfall)
        wrong = logits.argmax(1) != labels
        count = threat.distance(points, images)
        better = wrong & (count < fewest)
        best[better], fewest[better] = points[better], count[better]
        if step == steps:
            break
        gradient = _count_gradient(change, sigma) - towards
        gradient /= gradient.abs().flatten(1).amax(1).clamp_min(1e-12).reshape(-1, 1, 1, 1)
        first.lerp_(gradient, 1.0 - _MOMENTS[0])
        second.mul_(_MOMENTS[1]).addcmul_(gradient, gradient, value=1.0 - _MOMENTS[1])
        first_share, second_share = (1.0 - moment ** (step + 1) for moment in _MOMENTS)
        change -= length / first_share * first / ((second / second_share).sqrt_() + 1e-8)
        change = (images + change).clamp_(0.0, 1.0) - images
        length = step_size * (_LAST_STEP + (1.0 - _LAST_STEP) * 0.5 * (1.0 + math.cos(math.pi * step / steps)))
        limit = (limit + threshold_step * length * (2.0 * wrong - 1.0)).clamp_(0.0, 1.0)
        change *= change.abs().amax(1, keepdim=True) >= limit.reshape(-1, 1, 1, 1)
    return best


def _shortfall(logits: Logits, labels: Labels) -> Tensor:
    """The margin, as long as it is below 0."""
    return margin(logits, labels).clamp_max(0.0)


def _count_gradient(change: Tensor, sigma: float) -> Tensor:
    """Of the mean over all pixels of q / (q + sigma), where q is a pixel's squared change."""
    squared = change.square().sum(1, keepdim=True)
    return change * (2.0 * sigma / (squared + sigma).square_() / squared[0].numel())
