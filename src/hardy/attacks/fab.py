"""The fast adaptive boundary attack, towards one wrong class after the other, as in AutoAttack.

Croce and Hein, ICML 2020, arXiv:1907.02044.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from hardy.attacks.attack import Attack, value_and_gradient
from hardy.attacks.objectives import likeliest_wrong_classes, targeted_margin
from hardy.attacks.projections import step_to_hyperplane
from hardy.rng import Randomness
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels


def fab_targeted(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    rng: Randomness,  # noqa: ARG001
    steps: int,
    targets: int,
    bias: float,
    overshoot: float,
    backward: float,
    stop_within_eps: bool,
    start: Images | None = None,
) -> Images:
    """Walk along the boundary to each target, as near to the image as it goes; from ``start``, to its likeliest
    one and in a fifth of the steps.

    Args:
        steps: towards each target.
        targets: how many wrong classes, the likeliest first.
        bias: the largest share of a step that is taken from the image itself (``alpha_max`` in the paper).
        overshoot: how far a step goes, in units of the way to the boundary (``eta``).
        backward: where a step goes on after a success, in units of the way from the image (``beta``).
        stop_within_eps: an image stops at its first success within eps; else the smallest perturbation is looked for,
            whatever eps.
    """
    enough = threat.eps if stop_within_eps else 0.0
    best = images.clone()
    best_norm = torch.full_like(images[:, 0, 0, 0], torch.inf)
    standing = torch.arange(len(images), device=images.device)
    if start is None:
        start = images
    else:
        targets, steps = 1, math.ceil(steps / 5)
    with torch.no_grad():
        classes = likeliest_wrong_classes(classifier(start), labels, targets)
    for wanted in classes.T:
        norm, found = _walk(
            classifier,
            images[standing],
            start[standing],
            labels[standing],
            wanted[standing],
            threat,
            steps,
            bias,
            overshoot,
            backward,
            enough,
        )
        nearer = norm < best_norm[standing]
        best[standing[nearer]], best_norm[standing[nearer]] = found[nearer], norm[nearer]
        standing = (best_norm > enough).nonzero().squeeze(1)
        if not len(standing):
            break
    return best


def _walk(
    classifier: Classifier,
    images: Images,
    start: Images,
    labels: Labels,
    wanted: Labels,
    threat: ThreatModel,
    steps: int,
    bias: float,
    overshoot: float,
    backward: float,
    enough: float,
) -> tuple[Tensor, Images]:
    """The smallest norm found, (N,), infinity where none, and the image with it."""
    best, best_norm = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
    rows, reached = torch.arange(len(images), device=images.device), start
    # In linf the boundary as seen from just beyond it serves as well as from where the walk goes on, and saves a pass.
    twice = threat.norm != "linf"
    for step in range(steps + 1):
        towards = partial(targeted_margin, targets=wanted)
        if twice:
            logits, gradient = classifier(reached), images
        else:
            logits, gradient = value_and_gradient(classifier, reached, labels, towards)
        wrong = (logits.argmax(1) != labels).nonzero().squeeze(1)
        norm = threat.distance(reached[wrong], images[wrong])
        nearer = norm < best_norm[rows[wrong]]
        places = rows[wrong[nearer]]
        best[places], best_norm[places] = reached[wrong[nearer]], norm[nearer]
        stands = best_norm[rows] > enough
        if step == steps or not stands.any():
            break
        current = reached.clone()
        current[wrong] = torch.lerp(images[wrong], reached[wrong], backward)
        if not stands.all():
            rows, images, labels, wanted = rows[stands], images[stands], labels[stands], wanted[stands]
            current, reached, logits, gradient = current[stands], reached[stands], logits[stands], gradient[stands]
            towards = partial(targeted_margin, targets=wanted)
        if twice:
            reached = current
            logits, gradient = value_and_gradient(classifier, current, labels, towards)
        value = towards(logits, labels)
        reached = _step(current, images, gradient, _offset(gradient, reached, value), threat, bias, overshoot)
    return best_norm, best


def _offset(gradient: Tensor, reached: Images, value: Tensor) -> Tensor:
    """Of the plane where what has ``value`` at ``reached`` would be 0 if it were linear, float32 (N,)."""
    return (gradient * reached).flatten(1).sum(1) - value


def _step(
    current: Images,
    images: Images,
    gradient: Tensor,
    offset: Tensor,
    threat: ThreatModel,
    bias: float,
    overshoot: float,
) -> Images:
    """To a point between the nearest ones to ``current`` and to the image on the linearised boundary."""
    points = torch.stack([current.flatten(1), images.flatten(1)])
    steps = step_to_hyperplane(points, gradient.flatten(1), offset, threat.norm)
    from_current, from_image = _length(steps, threat.norm).clamp_min(1e-8)
    share = (from_current / (from_current + from_image)).clamp_max(bias)[:, None]
    beyond_current, beyond_image = points + overshoot * steps
    return torch.lerp(beyond_current, beyond_image, share).clamp_(0.0, 1.0).reshape(images.shape)


def _length(steps: Tensor, norm: Norm) -> Tensor:
    match norm:
        case "linf":
            return steps.abs().amax(-1)
        case "l2":
            return steps.norm(dim=-1)
        case _:
            return steps.abs().sum(-1)


_SETTINGS = {"steps": 100, "targets": 9, "bias": 0.1, "overshoot": 1.05, "backward": 0.9}
_REFERENCE = "Croce and Hein, ICML 2020, arXiv:1907.02044"
FAB = Attack(
    name="fab",
    title="fast adaptive boundary attack, the smallest perturbation over nine targets",
    function=fab_targeted,
    norms=("linf", "l2", "l1"),
    reference=_REFERENCE,
    search="smallest",
    settings={**_SETTINGS, "stop_within_eps": False},
)
FAB_TARGETED = Attack(
    name="fab-t",
    title="fast adaptive boundary attack towards nine targets, until within eps",
    function=fab_targeted,
    norms=("linf", "l2", "l1"),
    reference=_REFERENCE,
    settings={**_SETTINGS, "stop_within_eps": True},
    warm_start=True,
)
