"""Which epoch is the best, and what to do where training goes wrong.

The best epoch is chosen on validation images: by accuracy, or, where the recipe trains against threat models, by the
accuracy under attack in all of them at once. Clean accuracy would choose epochs that are less robust.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hardy.errors import HardyError
from hardy.rng import Randomness, host_generator
from hardy.threats import ThreatModel
from hardy.training.recipe import Recipe
from hardy.training.search import worst_images
from hardy.validation import Labels, Logits, Targets, frozen_evaluation

ATTACKED_IMAGES = 500
"""Validation images that are attacked after each epoch, at most."""

_STEPS = 20
_REL_STEP_SIZE = {"linf": 0.1, "l2": 0.25, "l1": 0.25}
_BATCH = 500
_EVALUATION_BATCH = 1000
# Steps of training after which accuracy at chance is a collapse. Shorter epochs get a second one.
_STEPS_TO_LEARN = 100
_PATIENCE = 2
# Robust accuracy that falls below this share of its best was lost, not merely noisy.
_LOST = 0.5
# A network that resists one step so much better than many has learned to fool single steps.
_GAP = 0.4


class Split(NamedTuple):
    """A split on the device.

    Attributes:
        images: (N, C, H, W) as stored, uint8, or float32 in [0, 1].
        labels: int64 (N,); those of a training split may be soft, float32 (N, K).
    """

    images: Tensor
    labels: Targets


class Score(NamedTuple):
    """What an epoch is chosen by: the accuracy under attack, 0 where the recipe is not adversarial; then accuracy."""

    robust_accuracy: float
    accuracy: float


def validation_accuracy(
    model: nn.Module, weights: dict[str, Tensor], split: Split, precision: torch.autocast | None = None
) -> float:
    """The accuracy on ``split`` of the model with these weights in place of its own, which stay as they are."""
    right = 0
    precision = precision or torch.autocast(split.images.device.type, enabled=False)
    with frozen_evaluation(model), torch.no_grad(), precision:
        for images, labels in zip(
            split.images.split(_EVALUATION_BATCH), split.labels.split(_EVALUATION_BATCH), strict=True
        ):
            logits = torch.func.functional_call(model, weights, _floats(images))
            right += int((logits.argmax(1) == labels).sum())
    return right / len(split.labels)


def robust_accuracy(
    model: nn.Module,
    weights: dict[str, Tensor],
    split: Split,
    threats: Sequence[ThreatModel],
    precision: torch.autocast | None = None,
    *,
    steps: int = _STEPS,
) -> float:
    """The accuracy of the model with these weights on some images of ``split`` under attack in all threat models.

    An image counts as right where it is right as it is and at the end of so many steps in every one of them.
    """
    attacked = copy.deepcopy(model)
    attacked.load_state_dict(weights, strict=False)
    chosen = host_generator(0, "attacked validation images", len(split.labels)).permutation(len(split.labels))
    indices = torch.from_numpy(chosen[:ATTACKED_IMAGES]).to(split.images.device)
    precision = precision or torch.autocast(split.images.device.type, enabled=False)
    right = 0
    with frozen_evaluation(attacked), precision:
        for batch in indices.split(_BATCH):
            images, labels = _floats(split.images[batch]), split.labels[batch]
            rng = Randomness(0, batch, ("attacked validation images",))
            for threat in (None, *threats):
                moved = images
                if threat is not None and len(images):
                    moved = worst_images(
                        attacked,
                        images,
                        threat,
                        lambda logits, labels=labels: _margin(logits, labels).sum(),
                        threat.random_start(images, rng.fold(threat.norm)),
                        steps=steps,
                        step_size=(_REL_STEP_SIZE[threat.norm] if steps > 1 else 1.0) * threat.eps,
                    )
                with torch.no_grad():
                    left = attacked(moved).argmax(1) == labels if len(moved) else labels.bool()
                images, labels, rng = images[left], labels[left], rng.select(left)
            right += len(labels)
    return right / len(indices)


def lost_robustness(score: Score, best: Score, one_step: float, labels: Labels) -> str:
    """How robustness was lost, or only ever learned against single steps (catastrophic overfitting), in words; or ''.

    Args:
        score: of the epoch that has ended.
        best: of all epochs before.
        one_step: accuracy under an attack of a single step, once the radii have grown to their full size; else 0.
        labels: of the validation images.

    Wong et al., ICLR 2020, arXiv:2001.03994.
    """
    if best.robust_accuracy > 2 * _chance(labels) and score.robust_accuracy < _LOST * best.robust_accuracy:
        return (
            f"accuracy under attack on validation images fell from {best.robust_accuracy:.1%} to "
            f"{score.robust_accuracy:.1%}"
        )
    if one_step > score.robust_accuracy + _GAP:
        return (
            f"accuracy on validation images was {one_step:.1%} under an attack of one step and "
            f"{score.robust_accuracy:.1%} under one of {_STEPS}"
        )
    return ""


def check_collapse(
    accuracy: float, at_chance: int, labels: Labels, recipe: Recipe, epochs: int, steps_per_epoch: int
) -> int:
    """For how many epochs accuracy has now been at chance, after ``at_chance`` before.

    Raises:
        HardyError: for too long; the message says what to change.
    """
    chance = _chance(labels)
    # A margin that shrinks as chance nears 1, so that two very unequal classes leave room above it.
    at_chance = at_chance + 1 if accuracy <= chance + 0.2 * chance * (1 - chance) else 0
    long = at_chance * steps_per_epoch >= _STEPS_TO_LEARN or at_chance >= _PATIENCE
    if long or (at_chance and epochs == recipe.epochs):
        ramped = all(objective.settings.get("ramp", 1.0) for objective in recipe.objectives)
        change = "raise warm_up" if ramped else "let eps grow at first: set ramp to 0.3"
        raise HardyError(
            f"training '{recipe.name}' has collapsed: validation accuracy {accuracy:.1%} is at chance after "
            f"{epochs} epochs; lower learning_rate (now {recipe.learning_rate:g}) or {change}"
        )
    return at_chance


def check_finite(loss: float, recipe: Recipe, step: int) -> float:
    """The loss itself.

    Raises:
        HardyError: it is not finite.
    """
    if loss - loss != 0:
        raise HardyError(
            f"training '{recipe.name}' has collapsed: the loss is {loss} at step {step}; "
            f"lower learning_rate (now {recipe.learning_rate:g}) or set gradient_clip"
        )
    return loss


def _chance(labels: Labels) -> float:
    return float(labels.bincount().max()) / len(labels)


def _floats(images: Tensor) -> Tensor:
    floats = images.float() / 255 if images.dtype == torch.uint8 else images
    return floats.contiguous(memory_format=torch.channels_last)


def _margin(logits: Logits, labels: Labels) -> Tensor:
    """By how much the likeliest wrong class leads: its gradient does not vanish where the answer is sure."""
    own = logits.gather(1, labels[:, None]).squeeze(1)
    return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - own
