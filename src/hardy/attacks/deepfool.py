"""DeepFool: over the nearest boundary, as if all boundaries were flat, again and again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from hardy.attacks.attack import steepest, value_and_gradient
from hardy.attacks.objectives import likeliest_wrong_classes, targeted_margin
from hardy.attacks.public import register
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels

# Added to each distance, so that steps next to a boundary do not vanish; and to norms, which may be 0.
_LEAST_STEP = 1e-4
_TINY = 1e-8
# Gradients of rivals differ by less than this factor, so a gap so many times the smallest is no nearest boundary.
_REACH = 3.0
# Where more than this share of the pairs is wanted, one forward pass and a backward pass a rival are cheaper.
_SHARED = 0.55


@register(
    title="DeepFool",
    norms=("linf", "l2"),
    reference="Moosavi-Dezfooli, Fawzi and Frossard, CVPR 2016, arXiv:1511.04599",
    search="smallest",
)
def deepfool(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    fast_model: Classifier,
    steps: int = 50,
    candidates: int = 10,
    overshoot: float = 0.02,
) -> Images:
    """Steps to the nearest boundary, as if all boundaries were flat, until the image is on the other side.

    Boundaries much farther than the nearest are left out: a rival needs a gradient only where its logit is near enough
    to the label's, relative to the nearest rival.

    Args:
        steps: how many at most.
        candidates: to how many classes boundaries are considered: the label's own and the likeliest wrong ones.
        overshoot: by which share the sum of the steps is lengthened.
    """
    # The fast model gives the gradients; gaps and success are the classifier's own.
    result = images.clone()
    active = torch.arange(len(images), device=images.device)
    logits = classifier(images)
    rivals = likeliest_wrong_classes(logits, labels, candidates - 1)
    current, change = images, torch.zeros_like(images)
    for _ in range(steps):
        gaps = logits.gather(1, labels[active, None]) - logits.gather(1, rivals[active])
        change = change + _step_to_nearest(fast_model, current, labels[active], rivals[active], gaps, threat.norm)
        current = (images[active] + (1.0 + overshoot) * change).clamp(0.0, 1.0)
        logits = classifier(current)
        still = logits.argmax(1) == labels[active]
        result[active[~still]] = current[~still]
        active, current, change, logits = active[still], current[still], change[still], logits[still]
        if not len(active):
            break
    return result


def _step_to_nearest(
    classifier: Classifier, images: Images, labels: Labels, rivals: Tensor, gaps: Tensor, norm: Norm
) -> Tensor:
    nearest = images.new_full((len(images),), torch.inf)
    step = torch.zeros_like(images)
    near = gaps <= _REACH * gaps.amin(1, keepdim=True)
    for row, rival, gradient in _gap_gradients(classifier, images, labels, rivals, near):
        dual_norm = gradient.flatten(1).norm(p=2 if norm == "l2" else 1, dim=1)
        distance = gaps[row, rival] / (dual_norm + _TINY)
        nearer = distance < nearest[row]
        row, distance = row[nearer], distance[nearer]
        nearest[row] = distance
        step[row] = (distance + _LEAST_STEP).reshape(-1, 1, 1, 1) * steepest(gradient[nearer], norm)
    return step


def _gap_gradients(
    classifier: Classifier, images: Images, labels: Labels, rivals: Tensor, wanted: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each wanted pair of image and rival the gradient of the rival's logit over the label's.

    Rivals come one rank after the other, so that no image is in one batch twice: where most images want many rivals,
    one forward pass serves them all; where few do, each rank asks about its own images only.
    """
    count = int(wanted.sum())
    if count > _SHARED * wanted.numel():
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            logits = classifier(leaf)
            totals = (logits.gather(1, rivals) - logits.gather(1, labels[:, None])).sum(0).unbind()
        for rank, total in enumerate(totals):
            (gradient,) = torch.autograd.grad(total, leaf, retain_graph=rank < len(totals) - 1)
            rows = wanted[:, rank].nonzero().squeeze(1)
            yield rows, torch.full_like(rows, rank), gradient[rows]
        return
    for rank in range(rivals.shape[1]):
        rows = wanted[:, rank].nonzero().squeeze(1)
        if len(rows):
            towards = partial(targeted_margin, targets=rivals[rows, rank])
            _, gradient = value_and_gradient(classifier, images[rows], labels[rows], towards)
            yield rows, torch.full_like(rows, rank), gradient
