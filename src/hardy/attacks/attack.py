"""What an attack is, and the gradient that most of them climb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hardy.threats import Norm
from hardy.validation import Classifier, Images, Labels, Logits

Objective = Callable[[Logits, Labels], Tensor]
"""From logits (N, K) and labels (N,) to a loss per example (N,), higher where the attack is nearer to success."""


AttackFunction = Callable[..., Images]
"""``(classifier, images, labels, threat, *, rng, **settings) -> images``: looks for images that are classified wrongly.

Takes and returns float32 (N, C, H, W). It sees only images that are still standing, and need not clip, check the ball
or judge success: the engine does. What it does to one example depends on that example and its random streams alone.
"""


@dataclass(frozen=True)
class Attack:
    """An attack with its settings, as the registry holds it.

    Attributes:
        name: what it is called.
        title: in words.
        function: the attack itself.
        norms: the norms that it works in.
        reference: the paper.
        search: ``fixed`` looks inside the ball of the threat model; ``smallest`` looks for the smallest perturbation,
            whatever the radius, which is then held against it.
        settings: what the function is called with besides.
        warm_start: whether the function takes ``start`` too, float32 (N, C, H, W): where a search in lower precision
            ended. From there it searches in float32 with a share of its budget.
        gradients: whether it needs them.
        rough: whether the function takes another classifier, ``rough``, with the same answers up to rounding but
            cheaper, for what it checks with the classifier afterwards.
        clean_gradient: whether the function takes ``clean_gradient``, float32 (N, C, H, W): that of the cross-entropy
            at the images, which is the same at every radius.
    """

    name: str
    title: str
    function: AttackFunction
    norms: tuple[Norm, ...]
    reference: str
    search: Literal["fixed", "smallest"] = "fixed"
    settings: Mapping[str, Any] = field(default_factory=dict)
    warm_start: bool = False
    gradients: bool = True
    rough: bool = False
    clean_gradient: bool = False


def cross_entropy_each(logits: Logits, labels: Labels) -> Tensor:
    """Cross-entropy of each example, (N,)."""
    return cross_entropy(logits, labels, reduction="none")


def value_and_gradient(
    classifier: Classifier, images: Images, labels: Labels, objective: Objective = cross_entropy_each
) -> tuple[Logits, Tensor]:
    """The logits, and the gradient of each example's objective with respect to its own image."""
    with torch.enable_grad():
        leaf = images.detach().requires_grad_(True)
        logits = classifier(leaf)
        (gradient,) = torch.autograd.grad(objective(logits, labels).sum(), leaf)
    return logits.detach(), gradient


def steepest(gradient: Tensor, norm: Norm) -> Tensor:
    """The direction of unit length in ``norm`` along which the objective rises most; 0 where the gradient is 0."""
    flat = gradient.flatten(1)
    match norm:
        case "linf":
            return gradient.sign()
        case "l2":
            size = flat.norm(dim=1).reshape(-1, 1, 1, 1)
            return torch.where(size > 0, gradient / size.clamp_min(torch.finfo(gradient.dtype).tiny), 0.0)
        case "l1" | "l0":
            place = flat.abs().argmax(1, keepdim=True)
            step = torch.zeros_like(flat).scatter_(1, place, flat.gather(1, place).sign())
            return step.reshape(gradient.shape)
