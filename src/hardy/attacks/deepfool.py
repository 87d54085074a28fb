"""DeepFool: over the nearest boundary, as if all boundaries were flat, again and again."""

from __future__ import annotations

import torch
from torch import Tensor

from hardy.attacks.attack import Attack, steepest
from hardy.attacks.objectives import likeliest_wrong_classes
from hardy.contracts import Classifier, Images, Labels
from hardy.randomness import Randomness
from hardy.threats import Norm, ThreatModel

# Added to each distance, so that steps next to a boundary do not vanish; and to norms, which may be 0.
_LEAST_STEP = 1e-4
_TINY = 1e-8


def deepfool(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,  # noqa: ARG001
    steps: int,
    candidates: int,
    overshoot: float,
) -> Images:
    """Step to the nearest boundary between the label and the ``candidates`` - 1 likeliest wrong classes.

    The sum of the steps is lengthened by ``overshoot``. An image that is fooled leaves the batch.
    """
    result = images.clone()
    standing = torch.arange(len(images), device=images.device)
    rivals = likeliest_wrong_classes(classifier(images), labels, candidates - 1)
    current, change = images, torch.zeros_like(images)
    for _ in range(steps):
        change = change + _step_to_nearest(classifier, current, labels[standing], rivals[standing], threat.norm)
        current = (images[standing] + (1.0 + overshoot) * change).clamp(0.0, 1.0)
        # Asked before the next step: one forward pass costs little beside the backward passes that it saves.
        still = classifier(current).argmax(1) == labels[standing]
        result[standing[~still]] = current[~still]
        standing, current, change = standing[still], current[still], change[still]
        if not len(standing):
            break
    return result


def _step_to_nearest(classifier: Classifier, images: Images, labels: Labels, rivals: Tensor, norm: Norm) -> Tensor:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        logits = classifier(leaf)
        gaps = logits.gather(1, rivals) - logits.gather(1, labels[:, None])
        totals = gaps.sum(0).unbind()
    nearest = images.new_full((len(images),), torch.inf)
    step = torch.zeros_like(images)
    # One forward pass and a backward pass a rival. On a processor neither vmap nor copies of the batch are faster.
    for number, total in enumerate(totals):
        (gradient,) = torch.autograd.grad(total, leaf, retain_graph=number < len(totals) - 1)
        dual_norm = gradient.flatten(1).norm(p=2 if norm == "l2" else 1, dim=1)
        distance = gaps[:, number].detach().abs() / (dual_norm + _TINY)
        nearer = distance < nearest
        nearest = torch.where(nearer, distance, nearest)
        length = (distance + _LEAST_STEP).reshape(-1, 1, 1, 1)
        step = torch.where(nearer.reshape(-1, 1, 1, 1), length * steepest(gradient, norm), step)
    return step


DEEPFOOL = Attack(
    name="deepfool",
    title="DeepFool",
    function=deepfool,
    norms=("linf", "l2"),
    reference="Moosavi-Dezfooli, Fawzi and Frossard, CVPR 2016, arXiv:1511.04599",
    search="smallest",
    settings={"steps": 50, "candidates": 10, "overshoot": 0.02},
)
