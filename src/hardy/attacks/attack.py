"""What an attack is, and the gradient that most attacks follow."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hardy.attacks.objectives import Objective, log_odds_against
from hardy.errors import UsageError, unknown
from hardy.threats import Norm
from hardy.validation import Classifier, Images, Labels, Logits

AttackFunction = Callable[..., Images]
"""``(classifier, images, labels, threat, *, …) -> images``: looks for images that are classified wrongly.

Takes and returns float32 (N, C, H, W). It sees only images that are not broken yet, and need not clip, check the ball
or judge success: the engine does. What it does to one example depends on that example and its random streams alone.

Its keyword parameters are its settings, each with a default, but for those that the engine passes where it finds them:

- ``rng``, :class:`~hardy.rng.Randomness`: the random streams of these examples.
- ``start``, float32 (N, C, H, W) or None: where a search in lower precision has ended. From such a warm start the
  attack goes on in float32 with a share of its budget.
- ``fast_model``: a classifier with the same answers up to rounding but cheaper, for what the attack then checks with
  ``classifier`` itself.
- ``clean_gradient``, float32 (N, C, H, W): that of the cross-entropy at the images, the same at every radius.
"""

PASSED_BY_ENGINE = ("rng", "start", "fast_model", "clean_gradient")


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
            whatever the radius, which is then compared with it.
        gradients: whether it needs them.
        settings: what the function is called with; those that are not given are the defaults of its signature.

    Raises:
        UsageError: a setting that the function does not have, or one without a default.
    """

    name: str
    title: str
    function: AttackFunction
    norms: tuple[Norm, ...]
    reference: str
    search: Literal["fixed", "smallest"] = "fixed"
    gradients: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults = {name: it.default for name, it in self._keywords().items() if name not in PASSED_BY_ENGINE}
        for name, default in defaults.items():
            if default is inspect.Parameter.empty:
                raise UsageError(f"attack '{self.name}': give its setting '{name}' a default in the signature")
        for name in self.settings:
            if name not in defaults:
                raise unknown(f"setting of {self.name}", name, defaults)
        object.__setattr__(self, "settings", {**defaults, **self.settings})

    def with_settings(self, **settings: Any) -> Attack:
        """The attack with some settings changed.

        Raises:
            UsageError: it has no such setting.
        """
        return replace(self, settings={**self.settings, **settings})

    def takes(self, name: str) -> bool:
        """Whether the function has a parameter of :data:`PASSED_BY_ENGINE`."""
        return name in self._keywords()

    def _keywords(self) -> dict[str, inspect.Parameter]:
        parameters = inspect.signature(self.function).parameters
        return {name: it for name, it in parameters.items() if it.kind is it.KEYWORD_ONLY}


@dataclass(frozen=True)
class Suite:
    """Attacks that are run one after the other, each on what those before have not broken.

    Attributes:
        name: what it is called.
        title: in words.
        attacks: which, in order.
        reference: the paper.
    """

    name: str
    title: str
    attacks: tuple[Attack, ...]
    reference: str


def value_and_gradient(
    classifier: Classifier, images: Images, labels: Labels, objective: Objective = log_odds_against
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
