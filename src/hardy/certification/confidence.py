"""How sure a classifier can become within a ball: what holds of images that it should not be sure of.

Bitterwolf, Meinke and Hein, GOOD, NeurIPS 2020, arXiv:2007.08473.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hardy.certification.bounds import Ball, box_minimum, interval_boxes
from hardy.certification.certify import Array, check_ball
from hardy.certification.operations import ROUNDOFF
from hardy.certification.trace import Traced, trace
from hardy.models import as_images, device_of
from hardy.validation import frozen_evaluation


def confidence_bounds(
    model: nn.Module, images: Array, *, eps: float, norm: str = "linf", batch_size: int = 100
) -> NDArray[np.float64]:
    """Upper bounds of the largest probability that a classifier gives within a ball, by intervals: float64 (N,).

    The AUROC of the confidence on test images against these bounds on outliers is guaranteed: no perturbation of the
    outliers within the ball makes it lower.

    Args:
        model: from images in [0, 1] to logits; left as it was.
        images: float32 (N, C, H, W) in [0, 1].
        eps: the radius, in units of the pixel range [0, 1].
        norm: linf, l2 or l1.
        batch_size: images at once.

    Raises:
        NoBoundError: the classifier has an operation without a bound.
        ContractError: images outside the contract.
        UsageError: unknown norm, or a radius that makes no sense.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> hardy.certification.confidence_bounds(model, torch.rand(3, 1, 2, 2), eps=0.1).shape
        (3,)
    """
    threat, images = check_ball(norm, eps), as_images(images, device_of(model))
    traced = trace(model, tuple(images.shape[1:]))
    with frozen_evaluation(model), torch.no_grad():
        found = [_highest(traced, Ball(some, threat)) for some in images.split(batch_size)]
    return torch.cat(found).cpu().numpy()


def _highest(traced: Traced, ball: Ball) -> Tensor:
    classes = traced.networks[0].shapes[-1][0]
    one_hot = torch.eye(classes, device=ball.images.device)
    # Row (j, k) is the logit of k less that of j.
    weights = (one_hot[None] - one_hot[:, None]).reshape(1, -1, classes)
    probabilities = []
    for network in traced.networks:
        lower = box_minimum(network, interval_boxes(network, ball), weights).unflatten(1, (classes, classes))
        # The difference of a logit to itself is 0, whatever the room for rounding.
        lower.diagonal(dim1=1, dim2=2).zero_()
        probabilities.append((-lower.logsumexp(2)).exp())
    highest = torch.stack(probabilities).mean(0).amax(1)
    # The classifier's own softmax rounds, too.
    return (highest * (1 + 64 * ROUNDOFF)).clamp_max(1.0)
