"""A recipe: everything that decides how a classifier is trained, as a frozen value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hardy.augmentations import Settings, check_augmentation
from hardy.errors import UsageError, unknown
from hardy.threats import ThreatModel
from hardy.training.objectives import Objective

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
        objectives: what is minimized: the sum of these losses, each with its settings and weight.
        augmentation: names and settings, applied in order; see :func:`hardy.augmentations.augment`.
        members: recipes of an ensemble's members.
        joint: train the members as one network, by this recipe, on attacks of the whole; else they are trained one
            after another, each by its own recipe, and the rest of this one does not count.
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
    objectives: tuple[Objective, ...] = (Objective("cross_entropy"),)
    augmentation: Mapping[str, Settings] = field(default_factory=dict)
    members: tuple[Recipe, ...] = ()
    joint: bool = False

    def __post_init__(self) -> None:
        if self.joint or not self.members:
            _check(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Recipe:
        """From what :meth:`to_dict` gave, also where a recipe still had a single loss."""
        fields = dict(stored)
        if "loss" in fields:
            fields["objectives"] = [{"loss": fields.pop("loss"), "settings": fields.pop("loss_settings", {})}]
        fields["objectives"] = tuple(Objective.from_json(it) for it in fields["objectives"])
        fields["members"] = tuple(cls.from_dict(it) for it in fields.get("members", ()))
        return cls(**fields)

    @property
    def networks(self) -> tuple[Recipe, ...]:
        """A recipe per network that is trained: the members', or the recipe itself."""
        return (self,) if self.joint or not self.members else self.members

    @property
    def threats(self) -> tuple[ThreatModel, ...]:
        """The threat models that the objectives train against, each once."""
        return tuple(dict.fromkeys(threat for objective in self.objectives for threat in objective.threats))

    @property
    def takes_single_steps(self) -> bool:
        """Whether an attack that is trained on takes one step only."""
        return any(
            bool(it.threats) and (it.settings.get("steps") == 1 or "replays" in it.settings) for it in self.objectives
        )

    @property
    def longest_ramp(self) -> float:
        """The share of training after which all radii have grown to their full size."""
        return max((float(it.settings.get("ramp", 0.0)) for it in self.objectives), default=0.0)

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

        ``LOSS.NAME`` is a setting of the objective with that loss, ``LOSS.weight`` its weight.

        Raises:
            UsageError: no such field (with the nearest names), or a value that does not fit it.

        Example:
            >>> from hardy.training import RECIPES
            >>> RECIPES["fast"].with_settings({"epochs": "3", "model_arguments": '{"width": 8}'}).epochs
            3
        """
        if not settings:
            return self
        if self.members and not self.joint:
            return dataclasses.replace(self, members=tuple(it.with_settings(settings) for it in self.members))
        values = {key: _parse(key, text) for key, text in settings.items() if "." not in key}
        changed = dataclasses.replace(self, **values)
        for key, text in settings.items():
            if "." in key:
                changed = dataclasses.replace(changed, objectives=_with_setting(changed.objectives, key, text))
        return changed


def _parse(key: str, text: str) -> Any:
    hints = get_type_hints(Recipe)
    settable = hints.keys() - {"name", "description", "members", "joint"}
    if key not in settable:
        raise unknown("setting", key, settable)
    hint = hints[key]
    if key == "objectives":
        return _parse_objectives(text)
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


def _parse_objectives(text: str) -> tuple[Objective, ...]:
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list):
        raise UsageError(f"--set objectives={text}: objectives is a JSON list of losses' names or mappings")
    return tuple(Objective.from_json(value) for value in values)


def _with_setting(objectives: tuple[Objective, ...], key: str, text: str) -> tuple[Objective, ...]:
    loss, _, name = key.partition(".")
    losses = [objective.loss for objective in objectives]
    if loss not in losses:
        raise unknown("objective", loss, losses)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    place = losses.index(loss)
    stored = dataclasses.asdict(objectives[place])
    stored |= {"weight": value} if name == "weight" else {"settings": {**stored["settings"], name: value}}
    return (*objectives[:place], Objective.from_json(stored), *objectives[place + 1 :])


def _check(recipe: Recipe) -> None:
    for it in dataclasses.fields(recipe):
        if "bounds" in it.metadata:
            value, (low, high) = getattr(recipe, it.name), it.metadata["bounds"]
            if not low <= value <= high:
                raise UsageError(f"recipe '{recipe.name}': {it.name} is {value:g}; it lies from {low:g} to {high:g}")
    check_augmentation(recipe.augmentation)
