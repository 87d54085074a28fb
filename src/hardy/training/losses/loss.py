"""What a loss is, and the registry of losses.

A loss is a function ``(model, batch, **settings) -> scalar``. It runs the model itself, so that one that trains on
adversarial images needs nothing from the training loop. Its settings are keyword-only parameters. Some names mean the
same to training wherever a loss has them: ``steps`` of an attack and ``ramp``, the share of training during which its
radius grows; ``replays``, how many steps in a row train on one batch; ``source``, where the outliers come from that
``batch.outliers`` holds; and ``label_smoothing``, which the recipe gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from hardy.registry import Registry
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Images, Targets


@dataclass(frozen=True, eq=False)
class Batch:
    """What a loss sees of one training step.

    Attributes:
        images: float32 (N, C, H, W) in [0, 1], augmented.
        targets: int64 (N,), or float32 (N, K) where augmentation mixes labels.
        rng: one random stream per example.
        progress: the share of all training steps that is done, from 0 to 1.
        outliers: float32 (N, C, H, W) in [0, 1], for a loss with the setting ``source``; else None.
        state: tensors that the loss keeps from step to step, by name; empty at first, and part of the checkpoint.
        memo: what a loss works out once per training; not part of the checkpoint.
        setbacks: how often training has lost its robust accuracy and gone back, which a loss may heed.
    """

    images: Images
    targets: Targets
    rng: Randomness
    progress: float
    outliers: Images | None = None
    state: dict[str, Tensor] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)
    setbacks: int = 0


LossFunction: TypeAlias = Callable[..., Tensor]
"""``(model, batch, **settings) -> scalar``."""


@dataclass(frozen=True)
class Loss:
    """A loss as the registry holds it.

    Attributes:
        name: by which objectives ask for it.
        function: ``(model, batch, **settings) -> scalar``.
        threats: from the settings to the threat models that it trains against.
        hard_labels: whether it takes no soft labels.
    """

    name: str
    function: LossFunction
    threats: Callable[..., tuple[ThreatModel, ...]] = lambda **_: ()
    hard_labels: bool = False

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        found = inspect.signature(self.function).parameters
        return {name: it for name, it in found.items() if it.kind is it.KEYWORD_ONLY}


LOSSES: Registry[Loss] = Registry("loss")


def register_loss(
    name: str, *, threats: Callable[..., tuple[ThreatModel, ...]] = lambda **_: (), hard_labels: bool = False
) -> Callable[[LossFunction], LossFunction]:
    """Decorate a function ``(model, batch, **settings) -> scalar`` so that the objectives of recipes can name it.

    Args:
        name: by which they do.
        threats: from its settings, as keywords, to the threat models that it trains against: the best epoch is then
            chosen by the accuracy under attack in them.
        hard_labels: whether it takes no soft labels.

    Raises:
        UsageError: the name is taken.

    Example:
        >>> import hardy.training
        >>> from torch.nn.functional import multi_margin_loss
        >>> @hardy.training.register_loss("margin")
        ... def margin(model, batch, *, width: float = 1.0):
        ...     return multi_margin_loss(model(batch.images), batch.targets, margin=width)
        >>> objective = hardy.training.Objective("margin", {"width": 2.0})
        >>> recipe = hardy.training.Recipe("mine", "with a margin", objectives=(objective,))
    """

    def register(function: LossFunction) -> LossFunction:
        LOSSES.add(Loss(name, function, threats, hard_labels))
        return function

    return register
