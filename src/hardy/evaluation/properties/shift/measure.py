"""The measures of distribution shift: what is answered under a corruption, and how often the answer flips."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hardy.corruptions import CORRUPTIONS, PUBLISHED, corrupt_with, turned, warp
from hardy.evaluation.framework import Budget, Columns, EvaluationContext, Measurement, Shard, Skipped
from hardy.evaluation.predictions import measure_predictions
from hardy.rng import Randomness
from hardy.validation import Images

EXAMPLES: dict[Budget, int | None] = {"quick": 500, "standard": 2000, "full": None}
SEQUENCES: dict[Budget, int | None] = {"quick": 100, "standard": 1000, "full": None}

FAMILIES: dict[Budget, tuple[str, ...]] = {
    "quick": PUBLISHED,
    "standard": tuple(CORRUPTIONS),
    "full": tuple(CORRUPTIONS),
}

MOVES = {
    "rotation": "from -14 to 14 degrees",
    "translation": "by -2 to 2 pixels in some direction",
    "scale": "from 1/1.2 to 1.2 times the size",
}
"""The small moves of a sequence, by name, and how far they go."""

FRAMES = 15
PUBLISHED_DATASET = "mnist-c"


class Condition(NamedTuple):
    """One corruption at one severity, and the cell that measures it."""

    corruption: str
    severity: int
    measurement: Measurement


def conditions(context: EvaluationContext) -> list[Condition]:
    """What is measured: where a published file is at hand, its images are those of the default severity."""
    found = []
    for name in FAMILIES[context.budget]:
        corruption = CORRUPTIONS[name]
        if corruption.reason_undefined(context.shape):
            continue
        severities = corruption.severities if context.budget == "full" else [corruption.default]
        found += [Condition(name, severity, _measurement(context, name, severity)) for severity in severities]
    return found


def _measurement(context: EvaluationContext, name: str, severity: int) -> Measurement:
    file = f"{PUBLISHED_DATASET}/{name}"
    at_most = EXAMPLES[context.budget]
    if severity == CORRUPTIONS[name].default and file in context.shift:
        return Measurement.of("predict", file, context.examples(file, at_most))
    examples = context.examples(context.dataset, at_most)
    return Measurement.of("corrupted", context.dataset, examples, corruption=name, severity=severity)


def left_out(context: EvaluationContext) -> list[Skipped]:
    """What is not measured, or not on the published images, and why."""
    reasons = []
    if context.budget == "quick":
        reasons.append("held-out families: the quick budget leaves them out")
    undefined = {name: it.reason_undefined(context.shape) for name, it in CORRUPTIONS.items()}
    reasons += [f"{name}: {reason}" for name, reason in undefined.items() if reason]
    at_hand = [name for name in PUBLISHED if f"{PUBLISHED_DATASET}/{name}" in context.shift]
    if at_hand:
        reasons += [
            f"{PUBLISHED_DATASET}/{name}: not at hand, though others of the set are; hardy's own is measured instead"
            for name in PUBLISHED
            if name not in at_hand
        ]
    if context.validation is None:
        reasons.append("refusal rates: no validation images to set the threshold on")
    return [Skipped("distribution_shift", reason) for reason in reasons]


def move_measurement(context: EvaluationContext, move: str) -> Measurement:
    """The cell of sequences of one of :data:`MOVES`."""
    return Measurement.of(
        "consistency", context.dataset, context.examples(context.dataset, SEQUENCES[context.budget]), move=move
    )


def measure_corrupted(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), on the corrupted images."""
    name, severity = str(measurement.settings["corruption"]), int(measurement.settings["severity"])
    corrupted = corrupt_with(shard.images, name, severity, shard.rng(seed))
    return measure_predictions(
        classifier, replace(shard, images=corrupted), measurement, seed=seed, batch_size=batch_size
    )


def measure_consistency(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``flips``, int64 (N,): how often the predicted class changes from one frame of a sequence to the next.

    A sequence has 15 frames, evenly spaced over the move; the 8th is the image itself. As in Hendrycks and Dietterich's
    flip probability, arXiv:1903.12261.
    """
    rng = shard.rng(seed, "consistency")
    flips = torch.zeros_like(shard.indices)
    before = None
    for place in torch.linspace(-1.0, 1.0, FRAMES).tolist():
        frame = moved(shard.images, rng, str(measurement.settings["move"]), place)
        predicted = _predicted(classifier, frame, batch_size)
        if before is not None:
            flips += predicted != before
        before = predicted
    return {"flips": flips.cpu().numpy()}


def moved(images: Images, rng: Randomness, move: str, place: float) -> Images:
    """The frame at ``place``, from -1 to 1, of the sequence of a move; at 0 it is the image."""
    match move:
        case "rotation":
            return turned(images, torch.full((len(images),), math.radians(14.0) * place, device=images.device))
        case "translation":
            angle = rng.fold("direction").uniform(high=2 * math.pi)
            direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
            return warp(images, torch.eye(2), 2.0 * place * direction)
        case _:
            return warp(images, 1.2**-place * torch.eye(2))


def _predicted(classifier: nn.Module, images: Images, batch_size: int) -> Tensor:
    with torch.no_grad():
        return torch.cat([classifier(batch).argmax(1) for batch in images.split(batch_size)])
