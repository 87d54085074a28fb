"""A recipe: everything that decides how a classifier is trained, as a frozen value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from hardy.augmentations import Settings, check_augmentation
from hardy.errors import UsageError, unknown

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["one_cycle", "cosine", "exponential", "constant"]
Precision = Literal["auto", "bf16", "float32"]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        name: what the recipe is called.
        description: one line for the user.
        model: the architecture's name; its arguments are ``model_arguments``.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: ``adamw``, ``adam`` or ``sgd`` (Nesterov momentum 0.9).
        learning_rate: the highest one.
        weight_decay: on matrices and kernels only, not on biases and batch norm.
        schedule: ``one_cycle`` (linear up, linear down to 0), ``cosine`` (linear up, cosine down to 0), ``exponential``
            (times ``decay`` an epoch) or ``constant``.
        warm_up: share of all steps that the rise takes.
        decay: for ``exponential``.
        label_smoothing: share of the target spread over all classes.
        averaging: decay of the exponential moving average of weights and batch-norm statistics; 0 turns it off.
        gradient_clip: largest l2 norm of the gradient; 0 turns clipping off.
        precision: of the forward and backward pass; ``auto`` takes bf16 where the device computes it natively.
        loss: the name of the loss; its settings are ``loss_settings``.
        augmentation: names and settings, applied in order; see :func:`hardy.augmentations.augment`.
        members: recipes of an ensemble's members, trained one after another; the ensemble has no training of its own.
    """

    name: str
    description: str
    model: str = "compact"
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 1
    batch_size: int = 128
    optimizer: Optimizer = "adamw"
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    schedule: Schedule = "one_cycle"
    warm_up: float = 0.2
    decay: float = 0.98
    label_smoothing: float = 0.0
    averaging: float = 0.0
    gradient_clip: float = 0.0
    precision: Precision = "auto"
    loss: str = "cross_entropy"
    loss_settings: Mapping[str, float] = field(default_factory=dict)
    augmentation: Mapping[str, Settings] = field(default_factory=dict)
    members: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            _check(self)

    @property
    def parts(self) -> tuple[Recipe, ...]:
        """What is trained: the members, or the recipe itself."""
        return self.members or (self,)

    def architecture(self, classes: int) -> dict[str, Any]:
        """Name and arguments of the model, as a run stores them."""
        if self.members:
            return {"name": "ensemble", "arguments": {"members": [part.architecture(classes) for part in self.members]}}
        return {"name": self.model, "arguments": {"classes": classes, **self.model_arguments}}

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values, members included."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def with_settings(self, settings: Mapping[str, str]) -> Recipe:
        """The recipe with some fields replaced by typed-in values; an ensemble's go to every member.

        Raises:
            UsageError: no such field (with the nearest names), or a value that does not fit it.
        """
        if not settings:
            return self
        if self.members:
            return dataclasses.replace(self, members=tuple(part.with_settings(settings) for part in self.members))
        values = {key: _parse(key, text) for key, text in settings.items()}
        return dataclasses.replace(self, **values)


def _parse(key: str, text: str) -> Any:
    hints = get_type_hints(Recipe)
    settable = {name: hint for name, hint in hints.items() if name not in ("name", "description", "members")}
    if key not in settable:
        raise unknown("setting", key, settable)
    hint = settable[key]
    if choices := get_args(hint) if hint in (Optimizer, Schedule, Precision) else ():
        if text not in choices:
            raise unknown(f"value of {key}", text, choices)
        return text
    try:
        if hint is int:
            return int(text)
        if hint is float:
            return float(text)
        return text if hint is str else _parse_mapping(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(hint, "a JSON object")
        raise UsageError(f"--set {key}={text}: {key} is {kind}") from None


def _parse_mapping(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError
    return value


def _check(recipe: Recipe) -> None:
    bounds: dict[str, tuple[float, float]] = {
        "epochs": (1, 10_000),
        "batch_size": (2, 65_536),
        "learning_rate": (0.0, 100.0),
        "weight_decay": (0.0, 10.0),
        "warm_up": (0.0, 1.0),
        "decay": (0.0, 1.0),
        "label_smoothing": (0.0, 0.999),
        "averaging": (0.0, 0.99999),
        "gradient_clip": (0.0, 1e6),
    }
    for name, (low, high) in bounds.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            raise UsageError(f"recipe '{recipe.name}': {name} is {value:g}; it lies from {low:g} to {high:g}")
    check_augmentation(recipe.augmentation)
