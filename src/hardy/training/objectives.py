"""What training minimizes: the objectives of a recipe, each a loss with its settings and its weight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from hardy.augmentations import check_augmentation, mixes
from hardy.errors import UsageError
from hardy.threats import ThreatModel
from hardy.training.losses import LOSSES, Batch
from hardy.training.outliers import drawn_outliers
from hardy.validation import check_settings


@dataclass(frozen=True)
class Weight:
    """How much an objective counts, over the course of training.

    Attributes:
        value: the weight.
        ramp: the share of training during which it grows from 0 to ``value``, in a line.
        steps: pairs of a number of epochs and the weight for that long, in place of ``value``; the last one stays.
    """

    value: float = 1.0
    ramp: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()

    def at(self, progress: float, epochs: int) -> float:
        """The weight when this share of so many epochs is done."""
        if self.steps:
            end = 0.0
            for length, value in self.steps:
                end += length
                if progress * epochs < end:
                    return value
            return self.steps[-1][1]
        return self.value * min(1.0, progress / self.ramp) if self.ramp else self.value


@dataclass(frozen=True)
class Objective:
    """One term of what training minimizes.

    Attributes:
        loss: its name in :data:`LOSSES`.
        settings: what the loss is called with.
        weight: what it is multiplied by.
    """

    loss: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: Weight = field(default_factory=Weight)

    @classmethod
    def from_json(cls, value: Any) -> Objective:
        """From what JSON holds: a loss's name, or a mapping of the fields, in which ``weight`` may be a number.

        Raises:
            UsageError: neither, or a weight that is none.
        """
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("loss"), str) or value.keys() - _FIELDS:
            raise UsageError(f"objective {value!r}: it is a loss's name, or a mapping with loss, settings and weight")
        settings = value.get("settings", {})
        if not isinstance(settings, Mapping):
            raise UsageError(f"objective '{value['loss']}': its settings are a mapping, not {settings!r}")
        return cls(value["loss"], dict(settings), _weight(value["loss"], value.get("weight", 1.0)))

    @property
    def threats(self) -> tuple[ThreatModel, ...]:
        """The threat models that its loss trains against."""
        loss = LOSSES.find(self.loss)
        defaults = {name: it.default for name, it in loss.parameters.items() if it.default is not it.empty}
        return loss.threats(**{**defaults, **self.settings})

    def arguments(self, label_smoothing: float) -> dict[str, Any]:
        """What the loss is called with in a recipe with this much label smoothing."""
        smooths = label_smoothing and "label_smoothing" in LOSSES.find(self.loss).parameters
        return {**self.settings, **({"label_smoothing": label_smoothing} if smooths else {})}


_FIELDS = {"loss", "settings", "weight"}


def _weight(loss: str, value: Any) -> Weight:
    try:
        fields = dict(value) if isinstance(value, Mapping) else {"value": value}
        steps = tuple((float(length), float(weight)) for length, weight in fields.pop("steps", ()))
        return Weight(**{name: float(it) for name, it in fields.items()}, steps=steps)
    except (TypeError, ValueError):
        raise UsageError(
            f"objective '{loss}': its weight is {value!r}; it is a number, or a mapping with value and ramp, or with "
            "steps, pairs of epochs and weight"
        ) from None


def check_objectives(objectives: Sequence[Objective], epochs: int, label_smoothing: float, *, mixed: bool) -> None:
    """Raise :class:`UsageError` where these objectives cannot be trained by, with the reason.

    Args:
        objectives: of a recipe.
        epochs: of the recipe.
        label_smoothing: of the recipe.
        mixed: whether labels are soft.
    """
    if not objectives:
        raise UsageError("the recipe has no objectives; name one, for example cross_entropy")
    for objective in objectives:
        _check_objective(objective, epochs, label_smoothing, mixed)
    if not any(_largest(objective.weight) for objective in objectives):
        raise UsageError("all objectives have weight 0, so that nothing would be learned")
    smoothing = [it.loss for it in objectives if "label_smoothing" in LOSSES.find(it.loss).parameters]
    if label_smoothing and not smoothing:
        names = ", ".join(it.loss for it in objectives)
        raise UsageError(f"label_smoothing is {label_smoothing:g}, and no objective takes it ({names}); set it to 0")
    replays = {objective.settings.get("replays", 1) for objective in objectives}
    if len(replays) > 1:
        raise UsageError(f"objectives train on a batch {sorted(replays)} times in a row; give all the same replays")


def _check_objective(objective: Objective, epochs: int, label_smoothing: float, mixed: bool) -> None:
    loss, what = LOSSES.find(objective.loss), f"loss '{objective.loss}'"
    settings, weight = objective.arguments(label_smoothing), objective.weight
    check_settings(what, loss.function, settings)
    threats = objective.threats
    if loss.hard_labels and mixed:
        raise UsageError(f"{what} needs one label per image, and augmentation mixes them; leave out mixup and cutmix")
    # Outliers need not be moved: without a radius they are trained on as they are.
    attacked = {name: loss.parameters[name].default for name in ("steps", "replays") if name in loss.parameters}
    for name, default in attacked.items():
        if settings.get(name, default) == 0 and ("source" not in settings or settings.get("eps")):
            raise UsageError(f"{what}: {name} is 0, so that there would be no attack; it is at least 1")
    if settings.get("ramp", 0) > 1:
        raise UsageError(f"{what}: ramp is {settings['ramp']:g}: eps would still be growing at the end of training; "
                         "it is a share of training, from 0 to 1")  # fmt: skip
    own = settings.get("augmentation", {})
    check_augmentation(own)
    if mixes(own):
        raise UsageError(f"{what}: its views keep the label of their image; leave out mixup and cutmix")
    if any(threat.norm == "l0" for threat in threats):
        raise UsageError(f"{what} has no step in l0; it trains in linf, l2 and l1")
    if "linf" in loss.parameters and not threats:
        raise UsageError(f"{what}: every radius is 0, so that there would be no attack")
    if any(threat.norm == "linf" and threat.eps > 1 for threat in threats):
        raise UsageError(f"{what}: its linf radius is above 1; pixels lie in [0, 1]: if you mean 8/255, write 0.0314")
    if not 0 <= weight.ramp <= 1:
        raise UsageError(f"{what}: the ramp of its weight is {weight.ramp:g}; it is a share of training, from 0 to 1")
    if weight.steps and (any(length <= 0 for length, _ in weight.steps) or (weight.ramp, weight.value) != (0.0, 1.0)):
        raise UsageError(f"{what}: its weight has steps, each of which lasts some epochs, and then no value and ramp")
    if not 0 <= _largest(weight) < float("inf") or any(value < 0 for _, value in weight.steps):
        raise UsageError(f"{what}: a weight is a finite number from 0 up")
    if sum(length for length, _ in weight.steps[:-1]) >= epochs > 0 and len(weight.steps) > 1:
        raise UsageError(f"{what}: training ends after {epochs} epochs, before the last step of its weight")


def _largest(weight: Weight) -> float:
    return max((value for _, value in weight.steps), default=weight.value)


class Term:
    """An objective while it is trained by: its loss, what that is called with, and what it keeps from step to step."""

    def __init__(
        self, objective: Objective, epochs: int, label_smoothing: float, outliers: Tensor | None = None
    ) -> None:
        self.objective = objective
        self.outliers = outliers
        self.state: dict[str, Tensor] = {}
        self.memo: dict[str, Any] = {}
        self._epochs = epochs
        self._function = LOSSES.find(objective.loss).function
        self._arguments = objective.arguments(label_smoothing)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor | None:
        """The weighted loss; None where the weight is 0."""
        weight = self.objective.weight.at(batch.progress, self._epochs)
        if not weight:
            return None
        outliers = None if self.outliers is None else drawn_outliers(self.outliers, batch.rng)
        own = replace(batch, outliers=outliers, state=self.state, memo=self.memo)
        return weight * self._function(model, own, **self._arguments)
