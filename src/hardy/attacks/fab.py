"""The fast adaptive boundary attack, towards one wrong class after the other, as in AutoAttack.

Croce and Hein, ICML 2020, arXiv:1907.02044.
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from hardy.attacks.attack import value_and_gradient
from hardy.attacks.objectives import likeliest_wrong_classes, targeted_margin
from hardy.attacks.projections import step_to_hyperplane
from hardy.attacks.public import register
from hardy.threats import Norm, ThreatModel
from hardy.validation import Classifier, Images, Labels

_NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")
_REFERENCE = "Croce and Hein, ICML 2020, arXiv:1907.02044"


@register(
    title="fast adaptive boundary attack, the smallest perturbation over nine targets",
    norms=_NORMS,
    reference=_REFERENCE,
    search="smallest",
)
def fab(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    steps: int = 100,
    n_target_classes: int = 9,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> Images:
    """The fast adaptive boundary attack: walks along the boundary to each wrong class, as near to the image as it goes.

    Args:
        steps: towards each class.
        n_target_classes: how many wrong classes, the likeliest first.
        alpha_max: the largest share of a step that is taken from the image itself.
        eta: how far a step goes, in units of the way to the boundary (overshoot).
        beta: where a step goes on after a success, in units of the way from the image (backward step).
    """
    with torch.no_grad():
        classes = likeliest_wrong_classes(classifier(images), labels, n_target_classes)
    walk = _Walk(classifier, threat, steps, alpha_max, eta, beta, enough=0.0)
    return _nearest(walk, images, images, labels, classes)


@register(
    title="fast adaptive boundary attack towards nine targets, until within eps", norms=_NORMS, reference=_REFERENCE
)
def fab_t(
    classifier: Classifier,
    images: Images,
    labels: Labels,
    threat: ThreatModel,
    *,
    start: Images | None = None,
    steps: int = 100,
    n_target_classes: int = 9,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> Images:
    """The fast adaptive boundary attack, which stops at an image's first success within eps.

    Args:
        steps: towards each class.
        n_target_classes: how many wrong classes, the likeliest first.
        alpha_max: the largest share of a step that is taken from the image itself.
        eta: how far a step goes, in units of the way to the boundary (overshoot).
        beta: where a step goes on after a success, in units of the way from the image (backward step).
    """
    if start is not None:
        steps, n_target_classes = math.ceil(steps / 5), 1
    else:
        start = images
    with torch.no_grad():
        classes = likeliest_wrong_classes(classifier(start), labels, n_target_classes)
    walk = _Walk(classifier, threat, steps, alpha_max, eta, beta, enough=threat.eps)
    return _nearest(walk, images, start, labels, classes)


class _Walk(NamedTuple):
    """How to walk, as in :func:`fab`; an image stops at its first success within ``enough``."""

    classifier: Classifier
    threat: ThreatModel
    steps: int
    alpha_max: float
    eta: float
    beta: float
    enough: float


def _nearest(walk: _Walk, images: Images, start: Images, labels: Labels, classes: Tensor) -> Images:
    """The nearest image found on the walks towards each column of ``classes``."""
    best = images.clone()
    best_norm = torch.full_like(images[:, 0, 0, 0], torch.inf)
    active = torch.arange(len(images), device=images.device)
    for wanted in classes.T:
        norm, found = _walk(walk, images[active], start[active], labels[active], wanted[active])
        nearer = norm < best_norm[active]
        best[active[nearer]], best_norm[active[nearer]] = found[nearer], norm[nearer]
        active = (best_norm > walk.enough).nonzero().squeeze(1)
        if not len(active):
            break
    return best


def _walk(walk: _Walk, images: Images, start: Images, labels: Labels, wanted: Labels) -> tuple[Tensor, Images]:
    """The smallest norm found, (N,), infinity where none, and the image with it."""
    classifier, threat = walk.classifier, walk.threat
    best, best_norm = images.clone(), torch.full_like(images[:, 0, 0, 0], torch.inf)
    rows, reached = torch.arange(len(images), device=images.device), start
    # In linf the boundary as seen from just beyond it serves as well as from where the walk goes on, and saves a pass.
    twice = threat.norm != "linf"
    for step in range(walk.steps + 1):
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
        active = best_norm[rows] > walk.enough
        if step == walk.steps or not active.any():
            break
        current = reached.clone()
        current[wrong] = torch.lerp(images[wrong], reached[wrong], walk.beta)
        if not active.all():
            rows, images, labels, wanted = rows[active], images[active], labels[active], wanted[active]
            current, reached, logits, gradient = current[active], reached[active], logits[active], gradient[active]
            towards = partial(targeted_margin, targets=wanted)
        if twice:
            reached = current
            logits, gradient = value_and_gradient(classifier, current, labels, towards)
        value = towards(logits, labels)
        reached = _step(current, images, gradient, _offset(gradient, reached, value), walk)
    return best_norm, best


def _offset(gradient: Tensor, reached: Images, value: Tensor) -> Tensor:
    """Of the plane where what has ``value`` at ``reached`` would be 0 if it were linear, float32 (N,)."""
    return (gradient * reached).flatten(1).sum(1) - value


def _step(
    current: Images,
    images: Images,
    gradient: Tensor,
    offset: Tensor,
    walk: _Walk,
) -> Images:
    """To a point between the nearest ones to ``current`` and to the image on the linearized boundary."""
    points = torch.stack([current.flatten(1), images.flatten(1)])
    steps = step_to_hyperplane(points, gradient.flatten(1), offset, walk.threat.norm)
    from_current, from_image = _length(steps, walk.threat.norm).clamp_min(1e-8)
    share = (from_current / (from_current + from_image)).clamp_max(walk.alpha_max)[:, None]
    beyond_current, beyond_image = points + walk.eta * steps
    return torch.lerp(beyond_current, beyond_image, share).clamp_(0.0, 1.0).reshape(images.shape)


def _length(steps: Tensor, norm: Norm) -> Tensor:
    match norm:
        case "linf":
            return steps.abs().amax(-1)
        case "l2":
            return steps.norm(dim=-1)
        case _:
            return steps.abs().sum(-1)
