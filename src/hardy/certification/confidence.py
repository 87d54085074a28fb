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
from hardy.models import Ensemble, as_images, device_of
from hardy.validation import Images, frozen_evaluation

BOUNDED_SCORES = ("max_softmax", "max_logit", "energy")
"""The OOD scores, of :mod:`hardy.ood`, that are bounded."""

_SAME_LOGITS = 1e-3


def score_bounds(
    model: nn.Module, images: Array, *, eps: float, norm: str = "linf", batch_size: int = 100
) -> dict[str, NDArray[np.float64]]:
    """Lower bounds of OOD scores within a ball, by intervals: per score of :data:`BOUNDED_SCORES`, float64 (N,).

    No image of the ball gets a lower score, so none looks less strange than that. The AUROC of the scores of test
    images against these bounds on outliers is guaranteed: no perturbation of the outliers makes it lower. Where the
    answers are log probabilities, no logits are known, and ``max_softmax`` is all that is bounded.

    Args:
        model: from images in [0, 1] to logits; left as it was. Of an ensemble, the two scores that look at the size of
            logits are those of the mean of its members' logits, as in :mod:`hardy.ood`.
        images: float32 (N, C, H, W) in [0, 1].
        eps: the radius, in units of the pixel range.
        norm: linf, l2 or l1.
        batch_size: images at once.

    Raises:
        NoBoundError: the classifier has an operation without a bound.
        ContractError: images outside the contract.
        UsageError: unknown norm, or a radius that makes no sense.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> sorted(hardy.certification.score_bounds(model, torch.rand(3, 1, 2, 2), eps=0.1))
        ['energy', 'max_logit', 'max_softmax']
    """
    threat, images = check_ball(norm, eps), as_images(images, device_of(model))
    traced = trace(model, tuple(images.shape[1:]))
    with frozen_evaluation(model), torch.no_grad():
        logits = _gives_logits(model, traced, images[:1])
        found = [_lowest(traced, Ball(some, threat), logits=logits) for some in images.split(batch_size)]
    return {name: torch.cat([it[name] for it in found]).cpu().numpy() for name in found[0]}


def confidence_bounds(
    model: nn.Module, images: Array, *, eps: float, norm: str = "linf", batch_size: int = 100
) -> NDArray[np.float64]:
    """Upper bounds of the largest probability that a classifier gives within a ball, by intervals: float64 (N,).

    What :func:`score_bounds` says of ``max_softmax``, as a probability; arguments and errors are the same.

    Example:
        >>> import hardy, torch
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> hardy.certification.confidence_bounds(model, torch.rand(3, 1, 2, 2), eps=0.1).shape
        (3,)
    """
    lowest = score_bounds(model, images, eps=eps, norm=norm, batch_size=batch_size)["max_softmax"]
    # The classifier's own softmax rounds, too.
    return np.minimum(np.exp(-lowest) * (1 + 64 * ROUNDOFF), 1.0)


def _gives_logits(model: nn.Module, traced: Traced, images: Images) -> bool:
    """Whether what was traced answers what the classifier, or each member, does, and not up to a constant per image."""
    members = list(model.members) if isinstance(model, Ensemble) else [model]
    pairs = [(network(images), member(images)) for network, member in zip(traced.networks, members, strict=True)]
    return all(bool((a - b).abs().max() <= _SAME_LOGITS * b.abs().max().clamp_min(1)) for a, b in pairs)


def _lowest(traced: Traced, ball: Ball, *, logits: bool) -> dict[str, Tensor]:
    classes = traced.networks[0].shapes[-1][0]
    one_hot = torch.eye(classes, device=ball.images.device)
    # Row (k, j) is the logit of j less that of k; the last rows are minus each logit.
    pairs = (one_hot[None] - one_hot[:, None]).reshape(-1, classes)
    weights = torch.cat([pairs, -one_hot])[None]
    others, highest, size = [], [], torch.zeros(len(ball.images), dtype=torch.float64, device=ball.images.device)
    for network in traced.networks:
        boxes = interval_boxes(network, ball)
        lower = box_minimum(network, boxes, weights)
        highest.append(-lower[:, -classes:])
        lower = lower[:, :-classes].unflatten(1, (classes, classes))
        lower.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
        # The share of the other classes is kept, as what is left of a probability of nearly 1 would round away.
        others.append(torch.sigmoid(lower.logsumexp(2)))
        size = torch.maximum(size, boxes.values[-1].size.amax(1).double())
    found = {"max_softmax": -torch.log1p(-torch.stack(others).mean(0).amin(1))}
    if len(traced.networks) > 1 or not logits:
        # Log probabilities round before a score is made of them.
        found["max_softmax"] *= (1 - 64 * ROUNDOFF * (1 + size)).clamp_min(0.0)
    if logits:
        mean = torch.stack(highest).mean(0)
        room = 8 * len(highest) * ROUNDOFF * size if len(highest) > 1 else 0.0
        found |= {"max_logit": -mean.amax(1) - room, "energy": -mean.logsumexp(1) - room}
    return {name: _outward(it) for name, it in found.items()}


def _outward(lower: Tensor) -> Tensor:
    """A little less, for what the float64 of a score rounds; and finite."""
    return torch.nan_to_num(lower - 1e-12 * lower.abs(), nan=-1e30, neginf=-1e30)
