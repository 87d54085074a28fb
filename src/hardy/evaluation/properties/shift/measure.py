"""Measures distribution shift: what is answered under a corruption, and how often the answer flips."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from hardy.corruptions import CORRUPTIONS, PUBLISHED, corrupt_with, turned, warp
from hardy.evaluation.framework import Columns, EvaluationContext, Measurement, Plan, Shard, Skipped
from hardy.evaluation.predictions import (
    measure_predictions,
    prediction_measurement,
    test_measurement,
)
from hardy.models import predict_logits
from hardy.rng import Randomness
from hardy.validation import Images

MOVES = {
    "rotation": "from -14 to 14 degrees",
    "translation": "by -2 to 2 pixels in some direction",
    "scale": "from 1/1.2 to 1.2 times the size",
}
"""The small moves of a sequence, by name, and how far they go."""

FRAMES = 15
PUBLISHED_DATASET = "mnist-c"


class Condition(NamedTuple):
    """One corruption at one severity, and what measures it."""

    corruption: str
    severity: int
    measurement: Measurement


def plan(context: EvaluationContext) -> Plan:
    measurements = [
        test_measurement(context),
        *([prediction_measurement(context, context.validation)] if context.validation else []),
        *(it.measurement for it in conditions(context)),
        *(prediction_measurement(context, name) for name in natural_shifts(context)),
        *(move_measurement(context, move) for move in moves(context)),
    ]
    return Plan(measurements, left_out(context))


def natural_shifts(context: EvaluationContext) -> list[str]:
    """The datasets at hand that show the same classes and come from elsewhere."""
    return [name for name in context.shift if not name.startswith(f"{PUBLISHED_DATASET}/")]


def conditions(context: EvaluationContext) -> list[Condition]:
    """What is measured: where a published file is at hand, its images are those of the default severity."""
    found = []
    for name in CORRUPTIONS if context.budget.corruptions is None else context.budget.corruptions:
        corruption = CORRUPTIONS[name]
        if corruption.reason_undefined(context.shape):
            continue
        severities = corruption.severities if context.budget.every_severity else [corruption.default]
        found += [Condition(name, severity, _measurement(context, name, severity)) for severity in severities]
    return found


def _measurement(context: EvaluationContext, name: str, severity: int) -> Measurement:
    file = f"{PUBLISHED_DATASET}/{name}"
    at_most = context.budget.corrupted
    if severity == CORRUPTIONS[name].default and file in context.shift:
        return Measurement.of("predict", file, context.examples(file, at_most))
    examples = context.examples(context.dataset, at_most)
    return Measurement.of("corrupted", context.dataset, examples, corruption=name, severity=severity)


def left_out(context: EvaluationContext) -> list[Skipped]:
    """What is not measured, or not on the published images, and why."""
    reasons = []
    if context.budget.corruptions is not None:
        reasons.append(f"held-out families: the {context.budget.name} budget leaves them out")
    if not moves(context):
        reasons.append(f"flip rates: the {context.budget.name} budget leaves them out")
    undefined = {name: it.reason_undefined(context.shape) for name, it in CORRUPTIONS.items()}
    reasons += [f"{name}: {reason}" for name, reason in undefined.items() if reason]
    at_hand = [name for name in PUBLISHED if f"{PUBLISHED_DATASET}/{name}" in context.shift]
    if at_hand:
        reasons += [
            f"{PUBLISHED_DATASET}/{name}: not at hand, though others of the set are; hardy's own is measured instead"
            for name in PUBLISHED
            if name not in at_hand
        ]
    if at_hand and context.dataset == "mnist/test":
        reasons.append(
            "corruption errors relative to the reference network: it was measured under hardy's corruptions, not on "
            f"the published files of {', '.join(at_hand)}"
        )
    if context.validation is None:
        reasons.append("refusal rates: no validation images to set the threshold on")
    return [Skipped("distribution_shift", reason) for reason in reasons]


def moves(context: EvaluationContext) -> list[str]:
    """The sequences that are measured; the budget may leave them out."""
    return [] if context.budget.sequences == 0 else list(MOVES)


def move_measurement(context: EvaluationContext, move: str) -> Measurement:
    """The sequences of one of :data:`MOVES`."""
    examples = context.examples(context.dataset, context.budget.sequences)
    return Measurement.of("consistency", context.dataset, examples, move=move)


def measure_corrupted(
    classifier: nn.Module, shard: Shard, measurement: Measurement, *, seed: int, batch_size: int
) -> Columns:
    """``logits``, float32 (N, K), on the corrupted images."""
    name, severity = str(measurement.settings["corruption"]), int(measurement.settings["severity"])
    corrupted = corrupt_with(shard.images, name, severity, shard.rng(seed))
    shard = replace(shard, images=corrupted)
    return measure_predictions(classifier, shard, measurement, seed=seed, batch_size=batch_size)


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
        predicted = predict_logits(classifier, frame, batch_size).argmax(1)
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
