"""A recipe: everything that decides how a classifier is trained, as a frozen value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hardy.augmentations import Settings, check_augmentation
from hardy.errors import UsageError, unknown

Optimizer = Literal["adamw", "adam", "sgd"]
Schedule = Literal["one_cycle", "cosine", "exponential", "constant"]
Precision = Literal["auto", "bf16", "float32"]


def _within(low: float, high: float, default: float) -> Any:
    return field(default=default, metadata={"bounds": (low, high)})


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        name: what the recipe is called.
        description: one line for the user.
        model: the architecture's name; its arguments are ``model_arguments``.
        epochs: passes over the training images.
        batch_size: images per step.
        optimizer: ``adamw``, ``adam`` or ``sgd`` (Nesterov momentum 0.9).
        learning_rate: the highest one.
        weight_decay: on matrices and kernels only, not on biases and batch norm.
        schedule: ``one_cycle`` (linear up, linear down to 0), ``cosine`` (linear up, cosine down to 0), ``exponential``
            (times ``decay`` per epoch) or ``constant``.
        warm_up: share of all steps during which the learning rate rises.
        decay: for ``exponential``.
        label_smoothing: share of the target that is spread evenly over all classes.
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
    epochs: int = _within(1, 10_000, 1)
    batch_size: int = _within(2, 65_536, 128)
    optimizer: Optimizer = "adamw"
    learning_rate: float = _within(0.0, 100.0, 1e-3)
    weight_decay: float = _within(0.0, 10.0, 0.01)
    schedule: Schedule = "one_cycle"
    warm_up: float = _within(0.0, 1.0, 0.2)
    decay: float = _within(0.0, 1.0, 0.98)
    label_smoothing: float = _within(0.0, 0.999, 0.0)
    averaging: float = _within(0.0, 0.99999, 0.0)
    gradient_clip: float = _within(0.0, 1e6, 0.0)
    precision: Precision = "auto"
    loss: str = "cross_entropy"
    loss_settings: Mapping[str, float] = field(default_factory=dict)
    augmentation: Mapping[str, Settings] = field(default_factory=dict)
    members: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        if not self.members:
            _check(self)

    @property
    def networks(self) -> tuple[Recipe, ...]:
        """A recipe per network that is trained: the members', or the recipe itself."""
        return self.members or (self,)

    def architecture(self, classes: int) -> dict[str, Any]:
        """Name and arguments of the model, as a run stores them."""
        if self.members:
            return {"name": "ensemble", "arguments": {"members": [it.architecture(classes) for it in self.members]}}
        return {"name": self.model, "arguments": {"classes": classes, **self.model_arguments}}

    def to_dict(self) -> dict[str, Any]:
        """The recipe as JSON values, members included."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def with_settings(self, settings: Mapping[str, str]) -> Recipe:
        """The recipe with some fields set from text, as on the command line; an ensemble's members all get them.

        Raises:
            UsageError: no such field (with the nearest names), or a value that does not fit it.

        Example:
            >>> from hardy.training import RECIPES
            >>> RECIPES["fast"].with_settings({"epochs": "3", "model_arguments": '{"width": 8}'}).epochs
            3
        """
        if not settings:
            return self
        if self.members:
            return dataclasses.replace(self, members=tuple(it.with_settings(settings) for it in self.members))
        values = {key: _parse(key, text) for key, text in settings.items()}
        return dataclasses.replace(self, **values)


def _parse(key: str, text: str) -> Any:
    hints = get_type_hints(Recipe)
    settable = hints.keys() - {"name", "description", "members"}
    if key not in settable:
        raise unknown("setting", key, settable)
    hint = hints[key]
    if get_origin(hint) is Literal and text not in get_args(hint):
        raise unknown(f"value of {key}", text, get_args(hint))
    if hint is str or get_origin(hint) is Literal:
        return text
    try:
        value = hint(text) if hint in (int, float) else json.loads(text)
    except ValueError:
        value = None
    if value is None or not isinstance(value, hint if hint in (int, float) else dict):
        kind = {int: "a whole number", float: "a number"}.get(hint, "a JSON object")
        raise UsageError(f"--set {key}={text}: {key} is {kind}")
    return value


def _check(recipe: Recipe) -> None:
    for it in dataclasses.fields(recipe):
        if "bounds" in it.metadata:
            value, (low, high) = getattr(recipe, it.name), it.metadata["bounds"]
            if not low <= value <= high:
                raise UsageError(f"recipe '{recipe.name}': {it.name} is {value:g}; it lies from {low:g} to {high:g}")
    check_augmentation(recipe.augmentation)
